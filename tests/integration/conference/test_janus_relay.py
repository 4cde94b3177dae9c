"""The conference leg through a real TURN server."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.gateway.media.process import WorkerProcess
from sipmediadeploy.node.roles.coturn.role import render_config
from sipmediadeploy.protocol.replica import ConferenceAccess, CoturnService, TurnServer
from tests.integration.conference.guests import guest
from tests.integration.conference.janus_server import free_port, needs_janus, running_janus, spawn
from tests.integration.media_terminal import BLUE, RED, until, until_async

pytestmark = [
    pytest.mark.integration,
    needs_janus,
    pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed"),
]

SECRET = "not-a-real-secret"


def own_address() -> IPv4Address:
    """The address that this machine uses towards others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.18.0.1", 9))
        return IPv4Address(probe.getsockname()[0])


@pytest.fixture
def turn_server(tmp_path: Path) -> Iterator[TurnServer]:
    address, port = own_address(), free_port()
    service = CoturnService(
        service_address=address,
        port=port,
        realm="sip.example.org",
        secret=SECRET,
        relay_ports=(47_000, 47_099),
        allowed_peers=(IPv4Network(f"{address}/32"),),
    )
    (tmp_path / "turnserver.conf").write_text(render_config(service, tmp_path))
    process = spawn(["turnserver", "-c", str(tmp_path / "turnserver.conf")], tmp_path / "turn.log")
    yield TurnServer(address=address, port=port, secret=SECRET)
    process.kill()
    process.wait()


async def test_with_turn_always_all_media_is_relayed(
    tmp_path: Path, turn_server: TurnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    offer = WorkerProcess.offer

    async def recorded(self: WorkerProcess, peer: str) -> str:
        said.append(await offer(self, peer))
        return said[-1]

    monkeypatch.setattr(WorkerProcess, "offer", recorded)
    async with running_janus(tmp_path) as server:
        access = ConferenceAccess(platform="janus", url=server.url, turn="always", turn_server=turn_server)
        async with (
            guest(server.url, "Ann", 440, RED, access=access) as ann,
            guest(server.url, "Bob", 1000, BLUE, access=access) as bob,
        ):
            await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
            await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
            await until_async("Ann hears Bob", lambda: ann.terminal.hears(1000))
    kinds = set(re.findall(r" typ (\w+)", "".join(said)))
    assert kinds == {"relay"}
