"""A platform that tells of its TURN server: the call's media goes through it, and through nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sipmediadeploy.gateway.conference.base import Participant
from sipmediadeploy.gateway.conference.jitsi import driver
from sipmediadeploy.gateway.conference.jitsi.driver import JitsiDriver
from sipmediadeploy.gateway.media.api import IceServers
from tests.harness.ports import free_port
from tests.integration.conference.guests import caller
from tests.integration.conference.test_janus_relay import own_address
from tests.integration.jitsi.focus import running_focus
from tests.integration.jitsi.prosody_server import needs_prosody, running_prosody
from tests.integration.jitsi.test_jitsi_driver import endpoint_of, sees_and_hears
from tests.integration.media_terminal import BLUE, RED

pytestmark = [
    pytest.mark.integration,
    needs_prosody,
    pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed"),
]
SECRET = "a secret of Prosody and coturn"


@contextlib.asynccontextmanager
async def running_coturn(directory: Path, port: int) -> AsyncIterator[Path]:
    """A coturn; yields its log."""
    log = directory / "coturn.log"
    words = [
        "turnserver",
        "-n",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--use-auth-secret",
        "--realm",
        "meet.test",
    ]
    own = str(own_address())
    words += ["--static-auth-secret", SECRET, "--listening-ip", own, "--listening-port", str(port)]
    words += ["--relay-ip", own, "--log-file", str(log), "--simple-log", "--verbose"]
    words += ["--pidfile", str(directory / "coturn.pid")]
    process = _spawn(words, directory)
    try:
        async with asyncio.timeout(10):
            while not await _listens(port):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield log
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def _spawn(words: list[str], directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=directory)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(str(own_address()), port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_media_goes_through_the_server_that_the_platform_names(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ice_servers", lambda *_: IceServers(relay_only=True))  # none of our own
    port = free_port()
    service = f'{{ type = "turn", host = "{own_address()}", port = {port}, transport = "{transport}",'
    service += f' secret = "{SECRET}" }}'
    async with (
        running_coturn(tmp_path, port) as log,
        running_prosody(tmp_path / "prosody", services=service) as server,
        running_focus(server, free_port(), 1000.0, BLUE) as focus,
        caller(440.0, RED) as ann,
    ):
        access = focus.access.model_copy(update={"turn": "auto"})
        ann.session = await JitsiDriver(access, "g").join(
            Participant("Demo", "Ann"), ann.worker, ann.ended.append
        )
        await focus.initiate(endpoint_of(ann))
        await sees_and_hears(ann)
        assert "ALLOCATE processed, success" in log.read_text()
