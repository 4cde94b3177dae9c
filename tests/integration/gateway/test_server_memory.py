"""What the server keeps of calls that are over: nothing."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from sipmediadeploy.gateway import server as gateway_server
from sipmediadeploy.gateway.conference.base import Participant, SessionEnded
from sipmediadeploy.gateway.media.api import MediaWorker
from sipmediadeploy.gateway.server import GatewayServer
from sipmediadeploy.protocol.replica import ConferenceAccess, GatewayService, ReplicaDocument
from tests.harness.ports import free_port
from tests.harness.waiting import until
from tests.integration.gateway.fakes import FakeDriver, FakeSession, FakeWorkers
from tests.integration.gateway.wire import establish, open_peer, request

pytestmark = pytest.mark.integration
CALLS = 3
HEARTBEAT_S = 0.2
"""After its end aiohttp keeps a WebSocket for one and a half of it."""


class Pool(FakeWorkers):
    """Workers without processes."""

    ready = 1
    error = None

    def __init__(self, _size: int) -> None:
        super().__init__()

    def start(self) -> None: ...

    async def close(self) -> None: ...


class WebSocketSession(FakeSession):
    """A stay that has a WebSocket, made as those of the real drivers."""

    client: aiohttp.ClientSession | None = None
    socket: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self, url: str) -> aiohttp.ClientWebSocketResponse:
        self.client = aiohttp.ClientSession()
        self.socket = await self.client.ws_connect(url, heartbeat=HEARTBEAT_S)
        return self.socket

    async def leave(self) -> None:
        assert self.client is not None
        assert self.socket is not None
        await self.socket.close()
        await self.client.close()
        self.client = self.socket = None
        await super().leave()


class WebSocketDriver(FakeDriver):
    """Joins over WebSockets."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.alive: weakref.WeakSet[aiohttp.ClientWebSocketResponse] = weakref.WeakSet()
        """The WebSockets that are still in memory."""

    async def join(self, who: Participant, worker: MediaWorker, ended: SessionEnded) -> WebSocketSession:
        session = WebSocketSession(who, ended)
        self.alive.add(await session.connect(self.url))
        self.sessions.append(session)
        return session


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Python collects nothing by itself."""
    gc.disable()
    yield
    gc.enable()


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A server of WebSockets."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"ws://127.0.0.1:{port}/"
    await runner.cleanup()


@pytest.mark.usefixtures("no_collections")
async def test_connections_of_calls_that_are_over_leave_the_memory(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_server, "WorkerPool", Pool)
    monkeypatch.setattr(gateway_server, "COLLECT_EVERY_S", 0.1)
    port = free_port(socket.SOCK_DGRAM)
    service = GatewayService(
        sip_port=port,
        media_address=IPv4Address("127.0.0.1"),
        rtp_ports=(42000, 42007),
        capacity=2,
        conference=ConferenceAccess(platform="none", url=url),
    )
    document = ReplicaDocument(
        stack="test",
        name="test-gateway-0",
        slot=0,
        address=IPv4Address("127.0.0.1"),
        agent_token="x",
        service=service,
    )
    driver = WebSocketDriver(url)
    server = GatewayServer(document, service, driver, tmp_path)
    await server.start()
    try:
        for number in range(CALLS):
            peer = await open_peer()
            call_id = f"call-{number}"
            to = await establish(peer, port, call_id=call_id)
            peer.send(request("BYE", peer, to=to, cseq=2, branch="z9hG4bKbye", call_id=call_id), port)
            await until("the call is over", lambda: not server.calls(), 5)
            peer.close()
        assert len(driver.sessions) == CALLS
        await until("no connection is in memory any more", lambda: not driver.alive, 5)
    finally:
        await server.stop()
