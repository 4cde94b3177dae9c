"""Somebody else's user agents call the gateway: SIPp many times, baresip as a person would."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from sipmediadeploy.gateway.ports import PortPairs
from sipmediadeploy.gateway.reasons import EndReason
from sipmediadeploy.gateway.sip.transaction import Timers
from tests.harness.baresip import Baresip, Settings
from tests.integration.gateway.conftest import Calls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not (shutil.which("sipp") and shutil.which("baresip")), reason="needs sipp and baresip"
    ),
]


@pytest.mark.parametrize(
    ("transport", "extra", "number"), [("u1", (), 150), ("t1", (), 150), ("u1", ("-lost", "10"), 40)]
)
async def test_sipp_gets_every_call_through_also_when_packets_are_lost(
    calls: Calls, tmp_path: Path, transport: str, extra: tuple[str, ...], number: int
) -> None:
    calls.ports = PortPairs(40000, 40999)
    calls.ua.timers = Timers()  # as SIPp has them
    process = await asyncio.create_subprocess_exec(
        "sipp", "-sn", "uac", "-s", "room", "-i", "127.0.0.1", "-t", transport, "-m", str(number), "-r", "50",
        "-d", "200", "-nostdin", "-timeout", "60", *extra, f"127.0.0.1:{calls.ua.port}",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-3000:]
    repeated = re.findall(rb"(?:INVITE|BYE) -+>\s+\d+\s+(\d+)", output)
    assert not extra or any(int(n) for n in repeated)
    if extra:
        # A call whose ACK and BYE were both lost (SIPp takes our repeated 200 for the BYE's) goes on.
        done, _ = await asyncio.wait(calls.running, timeout=1)
        assert {task.result() for task in done} == {EndReason.HANGUP}
        assert len(done) > number * 0.8
        return
    async with asyncio.timeout(60):
        reasons = await asyncio.gather(*calls.running)
    assert reasons == [EndReason.HANGUP] * number
    assert calls.ports.free == 500
    assert calls.ua.active_dialogs == 0
    assert all(worker.closed for worker in calls.workers.workers)


async def test_baresip_calls_holds_resumes_and_is_hung_up_on(calls: Calls, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    def wait_for_media(times: int) -> None:
        asyncio.run_coroutine_threadsafe(calls.workers.workers[0].started(times), loop).result(5)

    def call() -> None:
        with Baresip(Settings(tmp_path, "127.0.0.1", seconds=10)) as terminal:
            terminal.dial(f"sip:room@127.0.0.1:{calls.ua.port}")
            terminal.hold()
            wait_for_media(2)
            terminal.resume()
            wait_for_media(3)
            loop.call_soon_threadsafe(calls.calls[0].finish, EndReason.CONFERENCE_ENDED, "kicked")
            terminal.wait_for("CALL_CLOSED", 5)

    await asyncio.to_thread(call)
    media = calls.workers.workers[0].media
    assert media[0].audio is not None
    assert media[0].video is not None
    assert media[0].audio.codec == "opus"
    assert media[0].video.pli
    assert [m.audio and m.audio.direction for m in media] == ["sendrecv", "recvonly", "sendrecv"]
    assert await calls.end() is EndReason.CONFERENCE_ENDED
