"""The conference leg through a real TURN server."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, Participant
from sipmediadeploy.gateway.conference.janus import JanusDriver
from sipmediadeploy.gateway.media.process import WorkerProcess
from sipmediadeploy.node.roles.coturn.role import render_config
from sipmediadeploy.protocol.replica import ConferenceAccess, CoturnService, TurnServer
from tests.harness.ports import free_port
from tests.harness.waiting import until, until_async
from tests.integration.conference.guests import caller, guest
from tests.integration.conference.janus_server import needs_janus, running_janus, spawn
from tests.integration.media_terminal import BLUE, RED

pytestmark = [
    pytest.mark.integration,
    needs_janus,
    pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed"),
]

SECRET = "not-a-real-secret"
RELAY_PORTS = (47_000, 47_099)


def own_address() -> IPv4Address:
    """The address that this machine uses towards others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.18.0.1", 9))
        return IPv4Address(probe.getsockname()[0])


class Coturn:
    """A TURN server that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        address = own_address()
        self.server = TurnServer(address=address, port=free_port(socket.SOCK_DGRAM), secret=SECRET)
        service = CoturnService(
            service_address=address,
            port=self.server.port,
            realm="sip.example.org",
            secret=SECRET,
            relay_ports=RELAY_PORTS,
            allowed_peers=(IPv4Network(f"{address}/32"),),
        )
        self._directory = directory
        (directory / "turnserver.conf").write_text(render_config(service, directory))
        self.start()

    def start(self) -> None:
        """Start it."""
        argv = ["turnserver", "-c", str(self._directory / "turnserver.conf")]
        self._process = spawn(argv, self._directory / "turn.log")

    def relays(self) -> int:
        """How many ports it has given to clients."""
        lines = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()[1:]
        ports = [int(line.split()[1].split(":")[1], 16) for line in lines]
        return sum(port in range(RELAY_PORTS[0], RELAY_PORTS[1] + 1) for port in ports)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[Coturn]:
    running = Coturn(tmp_path)
    yield running
    running.kill()


async def test_a_relayed_call_comes_back_soon_after_its_turn_server_was_replaced(
    tmp_path: Path, coturn: Coturn
) -> None:
    async with running_janus(tmp_path) as server:
        relayed = ConferenceAccess(platform="janus", url=server.url, turn="always", turn_server=coturn.server)
        async with (
            guest(server.url, "Ann", 440, RED, access=relayed) as ann,
            guest(server.url, "Bob", 1000, BLUE) as bob,
        ):
            await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
            await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
            coturn.kill()
            coturn.start()
            killed = time.monotonic()
            await until("new peer connections", lambda: {"send-2", "receive-2"} <= ann.connected, 20)
            frames = ann.terminal.frames_received
            await until("Ann gets a picture", lambda: ann.terminal.frames_received > frames + 5)
            print(f"back after {time.monotonic() - killed:.1f} s")
            await until_async("Bob hears Ann", lambda: bob.terminal.hears(440))
            assert not ann.ended


async def test_a_call_gives_its_relay_ports_back(tmp_path: Path, coturn: Coturn) -> None:
    """Else they are taken for ten minutes more, and a busy morning's calls find none."""
    async with running_janus(tmp_path) as server:
        relayed = ConferenceAccess(platform="janus", url=server.url, turn="always", turn_server=coturn.server)
        async with guest(server.url, "Bob", 1000, BLUE, access=relayed) as bob:
            async with guest(server.url, "Ann", 440, RED, access=relayed) as ann:
                await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
                await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
                both = coturn.relays()
            await until("Ann's are given back", lambda: coturn.relays() <= both / 2, 5)
        await until("Bob's are given back", lambda: coturn.relays() == 0, 5)


async def test_a_turn_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    nobody = TurnServer(address=own_address(), port=free_port(socket.SOCK_DGRAM), secret=SECRET)
    async with running_janus(tmp_path) as server, caller(440) as ann:
        access = ConferenceAccess(platform="janus", url=server.url, turn="always", turn_server=nobody)
        with pytest.raises(ConferenceUnavailable, match="TURN"):
            await JanusDriver(access, "g").join(Participant("demo", "Ann"), ann.worker, ann.ended.append)


async def test_with_turn_always_all_media_is_relayed(
    tmp_path: Path, coturn: Coturn, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    offer = WorkerProcess.offer

    async def recorded(self: WorkerProcess, peer: str) -> str:
        said.append(await offer(self, peer))
        return said[-1]

    monkeypatch.setattr(WorkerProcess, "offer", recorded)
    async with running_janus(tmp_path) as server:
        access = ConferenceAccess(platform="janus", url=server.url, turn="always", turn_server=coturn.server)
        async with (
            guest(server.url, "Ann", 440, RED, access=access) as ann,
            guest(server.url, "Bob", 1000, BLUE, access=access) as bob,
        ):
            await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
            await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
            await until_async("Ann hears Bob", lambda: ann.terminal.hears(1000))
    kinds = set(re.findall(r" typ (\w+)", "".join(said)))
    assert kinds == {"relay"}
