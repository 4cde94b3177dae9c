"""A picture begins with a key frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("gi")

from sipmediadeploy.gateway.media import gstreamer
from sipmediadeploy.gateway.media.gstreamer import Gst
from sipmediadeploy.gateway.media.picture import Picture
from sipmediadeploy.gateway.media.sip_stream import H264

pytestmark = pytest.mark.integration


def by_uplink(pipeline: Any, payloader: Any) -> Any:
    """Hold as a sending peer connection does; the pad that takes the picture."""
    pad = payloader.get_static_pad("sink")
    gstreamer.hold_until_idr(pad, lambda: None)
    return pad


def by_downlink(pipeline: Any, payloader: Any) -> Any:
    """Hold as the way to the terminal does."""
    picture = Picture(pipeline)
    picture.output.link(payloader)
    picture.hold()
    picture.output.set_state(Gst.State.PAUSED)
    return picture.output.get_static_pad("sink")


@pytest.mark.parametrize("hold", [by_uplink, by_downlink])
def test_losses_and_pictures_before_the_first_key_frame_reach_no_payloader(
    hold: Callable[[Any, Any], Any],
) -> None:
    gstreamer.start()
    pipeline = Gst.Pipeline.new(None)
    payloader = gstreamer.make("rtph264pay")
    pipeline.add(payloader)
    sink = hold(pipeline, payloader)
    if sink.is_linked():
        sink.get_peer().unlink(sink)
    source = Gst.Pad.new("src", Gst.PadDirection.SRC)
    source.set_active(True)
    payloader.set_state(Gst.State.PAUSED)
    gstreamer.link(source, sink)
    segment = Gst.Segment()
    segment.init(Gst.Format.TIME)
    for event in (
        Gst.Event.new_stream_start("picture"),
        Gst.Event.new_caps(Gst.Caps.from_string(H264)),
        Gst.Event.new_segment(segment),
        Gst.Event.new_gap(0, Gst.SECOND),
    ):
        source.push_event(event)
    picture = Gst.Buffer.new_wrapped(b"\0\0\0\1\x41\x9a\0")
    picture.set_flags(Gst.BufferFlags.DELTA_UNIT)
    assert source.push(picture) == Gst.FlowReturn.OK
    assert payloader.get_static_pad("sink").get_sticky_event(Gst.EventType.SEGMENT, 0) is not None
    assert payloader.get_static_pad("src").get_sticky_event(Gst.EventType.SEGMENT, 0) is None
    payloader.set_state(Gst.State.NULL)
    pipeline.set_state(Gst.State.NULL)
