"""The gateway's health check, against a control socket and a SIP socket that answer as its server does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from sipmediadeploy.node.roles.gateway.role import GatewayRole
from sipmediadeploy.protocol.replica import ConferenceAccess, GatewayService, ReplicaDocument

pytestmark = pytest.mark.integration

OWN = IPv4Address("127.0.53.64")


class Options(asyncio.DatagramProtocol):
    """Answers every request with one status."""

    def __init__(self, status: int) -> None:
        self._status = status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        call = re.search(rb"Call-ID: (\S+)", data)
        assert call
        self._transport.sendto(b"SIP/2.0 %d x\r\nCall-ID: %s\r\n\r\n" % (self._status, call.group(1)), addr)


@asynccontextmanager
async def server(path: Path, sip_status: int, **status: Any) -> AsyncIterator[GatewayRole]:
    known = {"calls": 0, "capacity": 4, "ready_workers": 2, "draining": False, "retired": False} | status

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/drain":
            known["draining"] = True
        return web.json_response(known)

    app = web.Application()
    app.router.add_route("*", "/{what}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Options(sip_status), local_addr=(str(OWN), 5060)
    )
    service = GatewayService(
        media_address=OWN,
        rtp_ports=(20000, 20015),
        capacity=4,
        conference=ConferenceAccess(platform="janus", url="ws://x"),
    )
    document = ReplicaDocument(stack="t", name="g", slot=0, address=OWN, agent_token="-", service=service)
    try:
        yield GatewayRole(document, service, path)
    finally:
        transport.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("sip", "status"),
    [
        (200, {}),
        (503, {"calls": 4, "ready_workers": 0}),
        (503, {"draining": True}),
        (503, {"draining": True, "retired": True, "ready_workers": 0}),
    ],
)
async def test_a_gateway_that_is_full_or_drains_is_healthy(tmp_path: Path, sip: int, status: Any) -> None:
    async with server(tmp_path / "s", sip, **status) as role:
        assert (await role.check()).ok


async def test_a_gateway_that_answers_nonsense_or_has_no_worker_is_not(tmp_path: Path) -> None:
    async with server(tmp_path / "s", 404) as role:
        assert "404" in (await role.check()).reason
    async with server(tmp_path / "s", 503, ready_workers=0, worker_error="no plugin") as role:
        assert (await role.check()).reason == "gateway: no media worker is ready: no plugin"


async def test_without_a_server_the_check_says_so(tmp_path: Path) -> None:
    async with server(tmp_path / "s", 200) as role:
        pass
    health = await role.check()
    assert not health.ok
    assert str(tmp_path) in health.reason


async def test_a_drain_reaches_the_server(tmp_path: Path) -> None:
    async with server(tmp_path / "s", 200) as role:
        await role.drain()
        assert (await role.check()).draining is True
