"""The server process with real media workers, as the agent and Kamailio see it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sipmediadeploy.protocol.replica import ConferenceAccess, GatewayService, ReplicaDocument
from tests.harness.baresip import Baresip, Settings
from tests.harness.ports import free_port
from tests.integration.conference.janus_server import running_janus
from tests.integration.gateway.wire import Peer, header, open_peer, request
from tests.unit.gateway.offers import BARESIP

pytestmark = pytest.mark.integration


async def until(holds: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Another process can only be asked again and again."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@dataclass
class Server:
    """The process and its control API."""

    directory: Path
    port: int
    conference: str = "ws://127.0.0.1:9/"
    process: asyncio.subprocess.Process | None = None
    told_to_stop: bool = False

    @property
    def socket(self) -> Path:
        return self.directory / "gateway.sock"

    async def start(self) -> None:
        document = ReplicaDocument(
            stack="test",
            name="test-gateway-0",
            slot=0,
            address=IPv4Address("127.0.0.1"),
            agent_token="x",
            service=GatewayService(
                sip_port=self.port,
                media_address=IPv4Address("127.0.0.1"),
                rtp_ports=(42000, 42007),
                capacity=2,
                conference=ConferenceAccess(platform="janus", url=self.conference),
            ),
        )
        path = self.directory / "replica.yaml"
        path.write_text(document.to_yaml())
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sipmediadeploy.gateway.server",
            "--document", str(path), "--control", str(self.socket), "--state", str(self.directory / "state"),
        )  # fmt: skip
        self.told_to_stop = False
        await until(self._ready, 40)

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None
        try:
            return bool((await self.ask("GET", "/status"))[1]["ready_workers"])
        except (aiohttp.ClientError, OSError):
            return False

    async def ask(self, method: str, path: str) -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(self.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://gateway{path}") as answer,
        ):
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())

    def tell_to_stop(self) -> None:
        """Send SIGTERM, once: a second one while Python ends would kill the process."""
        assert self.process is not None
        if not self.told_to_stop and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        self.told_to_stop = True

    async def stop(self) -> int:
        self.tell_to_stop()
        assert self.process is not None
        async with asyncio.timeout(15):
            return await self.process.wait()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path, free_port(socket.SOCK_DGRAM))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = await open_peer()
    yield peer
    peer.close()


async def options(peer: Peer, server: Server, branch: str) -> str:
    peer.send(request("OPTIONS", peer, branch=branch, call_id=branch), server.port)
    return (await peer.expect("SIP/2.0"))[:11]


async def test_the_gateway_serves_its_agent_drains_and_retires_for_good(server: Server, peer: Peer) -> None:
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    status, said = await server.ask("GET", "/status")
    assert status == 200
    assert (said["calls"], said["capacity"], said["draining"], said["retired"]) == (0, 2, False, False)
    assert await options(peer, server, "z9hG4bKa") == "SIP/2.0 200"

    assert (await server.ask("POST", "/drain"))[1]["draining"] is True
    assert await options(peer, server, "z9hG4bKb") == "SIP/2.0 503"
    peer.send(request("INVITE", peer, body=BARESIP, branch="z9hG4bKi1", call_id="i1"), server.port)
    await peer.expect("SIP/2.0 503")
    assert (await server.ask("POST", "/undrain"))[0] == 200
    assert await options(peer, server, "z9hG4bKc") == "SIP/2.0 200"

    # The conference of this test can't be reached: the call gets as far as that, through a real worker.
    peer.send(request("INVITE", peer, body=BARESIP, branch="z9hG4bKi2", call_id="i2"), server.port)
    refusal = await peer.expect("SIP/2.0 503", within_s=15)
    assert header(refusal, "Call-ID") == "i2"
    metrics = (await server.ask("GET", "/metrics"))[1]
    assert 'smd_gateway_calls_ended_total{reason="conference_unavailable"} 1.0' in metrics
    assert 'smd_gateway_calls_ended_total{reason="draining"} 1.0' in metrics

    async def nothing_left() -> bool:
        return not (await server.ask("GET", "/calls"))[1]

    await until(nothing_left, 5)
    assert (await server.ask("POST", "/retire"))[1]["retired"] is True
    assert (await server.ask("POST", "/undrain"))[0] == 409
    assert await server.stop() == 0
    await server.start()
    assert (await server.ask("GET", "/status"))[1]["retired"] is True
    assert await options(peer, server, "z9hG4bKd") == "SIP/2.0 503"


@pytest.mark.skipif(not (shutil.which("janus") and shutil.which("baresip")), reason="needs janus and baresip")
async def test_two_terminals_meet_a_dead_worker_costs_its_own_call_only_and_sigterm_says_bye(
    tmp_path: Path,
) -> None:
    for name in ("janus", "gateway"):
        (tmp_path / name).mkdir()
    async with running_janus(tmp_path / "janus") as janus:
        server = Server(tmp_path / "gateway", free_port(socket.SOCK_DGRAM), janus.url)
        await server.start()
        try:
            await asyncio.to_thread(_two_terminals, tmp_path, server, asyncio.get_running_loop())
        finally:
            assert await server.stop() == 0


def _two_terminals(directory: Path, server: Server, loop: asyncio.AbstractEventLoop) -> None:
    def ask(path: str) -> Any:
        return asyncio.run_coroutine_threadsafe(server.ask("GET", path), loop).result(5)[1]

    async def only_b_is_left() -> bool:
        return [call["name"] for call in (await server.ask("GET", "/calls"))[1]] == ["B"]

    uri = f"sip:demo@127.0.0.1:{server.port}"
    with (
        Baresip(Settings(directory / "a", "127.0.0.1", name="A", seconds=60)) as a,
        Baresip(Settings(directory / "b", "127.0.0.1", name="B", seconds=60, colour="c02040")) as b,
    ):
        took = [terminal.dial(uri) for terminal in (a, b)]
        print("set-up, seconds:", took)
        assert b.snapshot(20).stat().st_size > 0
        workers = {call["name"]: call["worker_pid"] for call in ask("/calls")}
        os.kill(workers["A"], signal.SIGKILL)
        a.wait_for("CALL_CLOSED", 10)
        asyncio.run_coroutine_threadsafe(until(only_b_is_left, 5), loop).result(6)
        assert 'reason="worker_crashed"} 1.0' in ask("/metrics")
        server.tell_to_stop()
        b.wait_for("CALL_CLOSED", 10)


async def test_a_document_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "replica.yaml"
    path.write_text("role: gateway\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sipmediadeploy.gateway.server", "--document", str(path),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert str(path) in errors.decode()
    assert "Traceback" not in errors.decode()
