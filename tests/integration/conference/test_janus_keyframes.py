"""Key frames through a real Janus: who asks for one gets it, and a picture begins with one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from sipmediadeploy.gateway.conference import janus_room
from sipmediadeploy.gateway.conference.janus_api import JanusConnection
from sipmediadeploy.gateway.media.gstreamer import force_key_unit
from tests.harness.waiting import until
from tests.integration.conference.guests import ROOM, Guest, guest
from tests.integration.conference.janus_server import JanusServer, needs_janus, running_janus
from tests.integration.media_terminal import BLUE, RED

pytestmark = [pytest.mark.integration, needs_janus]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[JanusServer]:
    """A Janus with a room in which it asks nobody for key frames of its own accord."""
    async with running_janus(tmp_path) as running:
        connection = await JanusConnection.open(running.url, lambda _: None)
        body = {**janus_room.create_body(ROOM, 2000), "fir_freq": 0}
        await connection.request(await connection.attach("janus.plugin.videoroom"), body)
        await connection.close()
        yield running


async def test_a_picture_that_is_held_back_gets_its_key_frame_each_time(server: JanusServer) -> None:
    async with guest(server.url, "Ann", 440, RED) as ann, guest(server.url, "Bob", 1000, BLUE) as bob:
        await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
        took = []
        for number in range(1, 9):
            before, asked = ann.terminal.keyframes_sent, time.monotonic()
            await bob.worker.video_switched()
            await until(f"key frame {number}", partial(_sent_since, ann, before), 20.0)
            took.append(time.monotonic() - asked)
        print("seconds:", *(f"{t:.2f}" for t in took))


def _sent_since(who: Guest, before: int) -> bool:
    return who.terminal.keyframes_sent > before


async def test_a_picture_begins_with_a_key_frame_however_late_it_comes(
    server: JanusServer, capfd: pytest.CaptureFixture[str]
) -> None:
    async with (
        guest(server.url, "Ann", 440, RED, pli=False) as ann,
        guest(server.url, "Bob", 1000, BLUE) as bob,
    ):
        await until("Ann is connected", lambda: "send-1" in ann.connected)
        await until("a key frame is asked for more than once", lambda: ann.keyframes_wanted >= 3)
        assert not bob.terminal.sees(RED)
        ann.terminal.element("vpay").get_static_pad("sink").push_event(force_key_unit())
        await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
    assert "misordering" not in capfd.readouterr().err
