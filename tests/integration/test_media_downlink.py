"""The mix never stops, whatever its inputs do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gi")

from sipmediadeploy.gateway.media import downlink, gstreamer
from sipmediadeploy.gateway.media.gstreamer import Gst
from tests.integration.media_terminal import until

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
    for element in (mix.audio, mix.video):
        element.sync_state_with_parent()
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
