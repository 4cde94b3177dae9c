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


async def test_a_late_start_of_the_input_is_not_its_end(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delayed(description: str) -> Any:
        return gstreamer.parse_bin(
            description.replace("! capsfilter", "! valve name=v drop=true ! capsfilter")
        )

    monkeypatch.setattr(downlink, "parse_bin", delayed)
    mix = downlink.Downlink(pipeline)
    for tee in (mix.audio, mix.video):
        tee.sync_state_with_parent()
    heard: list[bool] = []

    def count(_pad: Any, _info: Any) -> Any:
        heard.append(True)
        return Gst.PadProbeReturn.OK

    mix.audio.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, count)
    mix.start_audio(8000)
    await until("the mix runs without input", lambda: len(heard) > 10, 3)
    pipeline.get_by_name("v").set_property("drop", False)
    before = len(heard)
    await until("the mix runs with input", lambda: len(heard) > before + 10, 3)
