"""Coturn with the rendered configuration, asked by the health check's own client."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sipmediadeploy.node.roles.coturn.role import render_config
from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.replica import CoturnService
from sipmediadeploy.protocol.sip_options import Line, ProbeError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed"),
]

LOOPBACK = IPv4Address("127.0.0.1")
SERVICE = IPv4Address("127.0.51.3")
PORT = 23478
SECRET = "not-a-real-secret"


async def binding() -> None:
    line = Line(LOOPBACK, PORT)
    try:
        await turn.binding(line, 0.3)
    finally:
        line.close()


class Coturn:
    """One running coturn."""

    def __init__(self, run: Path, **changes: object) -> None:
        values: dict[str, object] = {
            "service_address": SERVICE,
            "port": PORT,
            "realm": "sip.example.org",
            "secret": SECRET,
            "relay_ports": (49160, 49170),
        }
        config = render_config(CoturnService.model_validate(values | changes), run)
        (run / "turnserver.conf").write_text(config)
        self.log = run / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["turnserver", "-c", run / "turnserver.conf"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while True:
            try:
                asyncio.run(binding())
                return
            except ProbeError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def coturn(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Coturn]:
    running = Coturn(tmp_path, **getattr(request, "param", {}))
    yield running
    running.stop()


def test_a_client_with_credentials_gets_an_allocation(coturn: Coturn) -> None:
    address, port = asyncio.run(turn.allocate(LOOPBACK, PORT, SECRET, 1.0))
    assert address == SERVICE
    assert 49160 <= port <= 49170


@pytest.mark.parametrize("coturn", [{"external_ip": "198.51.100.7"}], indirect=True)
def test_a_published_server_relays_from_its_published_address(coturn: Coturn) -> None:
    address, _ = asyncio.run(turn.allocate(LOOPBACK, PORT, SECRET, 1.0))
    assert address == IPv4Address("198.51.100.7")


def test_wrong_credentials_get_nothing(coturn: Coturn) -> None:
    with pytest.raises(ProbeError, match="refused with error 401"):
        asyncio.run(turn.allocate(LOOPBACK, PORT, "another", 1.0))


def test_allocations_are_given_back(coturn: Coturn) -> None:
    deadline = time.monotonic() + 20
    done = 0
    while done < 24:  # twice as many as there are ports; coturn frees one a moment after it is given back
        try:
            asyncio.run(turn.allocate(LOOPBACK, PORT, SECRET, 1.0))
            done += 1
        except ProbeError:
            assert time.monotonic() < deadline, f"only {done} allocations"
            time.sleep(0.1)


def test_a_stopped_server_is_sick_within_the_time_limit(coturn: Coturn) -> None:
    coturn.process.send_signal(19)  # SIGSTOP: silent, port open
    try:
        started = time.monotonic()
        with pytest.raises(ProbeError, match="no answer within"):
            asyncio.run(turn.allocate(LOOPBACK, PORT, SECRET, 0.5))
        assert time.monotonic() - started < 5.0
    finally:
        coturn.process.send_signal(18)


def test_a_server_that_is_gone_is_sick_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ProbeError, match="nothing listens"):
        asyncio.run(turn.allocate(LOOPBACK, 23479, SECRET, 20.0))
    assert time.monotonic() - started < 10.0, "it was waited for"


def test_the_secret_is_not_in_the_log_nor_in_the_process_list(coturn: Coturn) -> None:
    asyncio.run(turn.allocate(LOOPBACK, PORT, SECRET, 1.0))
    assert SECRET not in coturn.log.read_text()
    assert SECRET.encode() not in Path(f"/proc/{coturn.process.pid}/cmdline").read_bytes()
