"""The mix never stops, whatever its inputs do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gi")

from sipmediadeploy.gateway.media import downlink, gstreamer
from sipmediadeploy.gateway.media.graph import MediaGraph
from sipmediadeploy.gateway.media.gstreamer import Gst
from tests.harness.waiting import until
from tests.integration.media_terminal import Terminal

pytestmark = pytest.mark.integration


@pytest.fixture
def pipeline() -> Iterator[Any]:
    gstreamer.start()
    pipeline = Gst.Pipeline.new(None)
    pipeline.set_state(Gst.State.PLAYING)
    yield pipeline
    pipeline.set_state(Gst.State.NULL)


async def test_the_mix_runs_with_late_input_and_with_none(pipeline: Any) -> None:
    mix = downlink.Downlink(pipeline)
    mix.audio.sync_state_with_parent()
    heard: list[bool] = []

    def count(_pad: Any, _info: Any) -> Any:
        heard.append(True)
        return Gst.PadProbeReturn.OK

    async def goes_on(when: str) -> None:
        before = len(heard)
        await until(f"the mix runs {when}", lambda: len(heard) > before + 10, 3)

    mix.audio.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, count)
    mix.start_audio(8000)
    await goes_on("without input")
    speaker = Gst.parse_bin_from_description(
        "audiotestsrc is-live=true samplesperbuffer=960 ! valve name=v drop=true ! audio/x-raw,rate=48000"
        " ! opusenc ! rtpopuspay name=pay",
        True,
    )
    pipeline.add(speaker)
    source = speaker.get_static_pad("src")
    mix.add_audio(source)
    speaker.sync_state_with_parent()
    await goes_on("with an input that has not begun")
    speaker.get_by_name("v").set_property("drop", False)
    await goes_on("with input")
    speaker.get_by_name("v").set_property("drop", True)
    await goes_on("with an input that has paused")
    gstreamer.remove(pipeline, speaker)
    mix.remove(source)
    await goes_on("when the input has left")


async def test_a_worker_that_has_waited_for_its_call_makes_up_for_nothing() -> None:
    gstreamer.start()
    terminal = Terminal(440, None)
    graph = MediaGraph(lambda *_: None)
    late: list[float] = []

    def note(_pad: Any, info: Any) -> Any:
        now = graph._pipeline.get_current_running_time()
        late.append((now - info.get_buffer().pts) / Gst.SECOND)
        return Gst.PadProbeReturn.OK

    graph._down.audio.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, note)
    await asyncio.sleep(2)  # the wait is what is tested
    try:
        graph.start_sip(terminal.media(), 0)
        await until("the mix runs", lambda: len(late) > 10)
    finally:
        graph._pipeline.set_state(Gst.State.NULL)
        terminal.close()
    assert max(late) < 1, f"the mix begins {max(late):.1f} s in the past"
