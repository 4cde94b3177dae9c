"""Pictures that can't be passed through: received VP8, and the drawn card, encoded to H.264 for the terminal.

There is one encoder a call at most, made when it is first needed; it encodes what its selector lets through.
"""

from __future__ import annotations

from sipmediadeploy.gateway.media.card import Card, draw
from sipmediadeploy.gateway.media.gstreamer import (
    Element,
    Gst,
    Pad,
    ghost,
    insist_on_keyframes,
    link,
    parse_bin,
    remove,
)
from sipmediadeploy.gateway.media.sip_stream import H264
from sipmediadeploy.gateway.sip.h264 import PictureSize

_CARD_FPS = 5
_GOP_S = 30
"""Key frames come when they are asked for; this many seconds apart otherwise."""


class PictureEncoder:
    """Raw pictures in, H.264 access units out of ``source``."""

    def __init__(self, pipeline: Element, size: PictureSize, kbps: int) -> None:
        """Build it in ``pipeline``; the owner links ``source``.

        Raises:
            MediaError: an element is missing.
        """
        self._pipeline, self._size = pipeline, size
        self._card: Element = None
        self._card_pad: Pad = None
        self._inputs: dict[Pad, tuple[Element, Pad]] = {}
        self._bin = parse_bin(
            "input-selector name=raw sync-streams=false"
            f" ! openh264enc complexity=low rate-control=bitrate bitrate={kbps * 1000}"
            f" max-bitrate={kbps * 1500} gop-size={_GOP_S * size.fps} multi-thread=1 usage-type=camera"
            " ! video/x-h264,profile=constrained-baseline ! h264parse config-interval=-1"
            f" ! capsfilter name=end caps={H264}"
        )
        self._raw = self._bin.get_by_name("raw")
        self.source = ghost(self._bin, "src", self._bin.get_by_name("end").get_static_pad("src"))
        pipeline.add(self._bin)

    def start(self) -> None:
        """Run; call it when ``source`` is linked."""
        self._bin.sync_state_with_parent()

    def add_vp8(self, pad: Pad) -> Element:
        """Decode a received VP8 stream (called in a streaming thread); returns the bin that does it."""
        decode = parse_bin(
            "rtpvp8depay name=begin request-keyframe=true ! vp8dec threads=1"
            f" ! videoscale add-borders=true ! capsfilter name=end caps={self._raw_caps()}"
        )
        begin = ghost(decode, "sink", decode.get_by_name("begin").get_static_pad("sink"))
        insist_on_keyframes(decode.get_by_name("begin"))
        self._inputs[pad] = (decode, self._join(decode))
        decode.sync_state_with_parent()
        link(pad, begin)
        return decode

    def show(self, pad: Pad) -> None:
        """Encode this stream, which was added before."""
        self._raw.set_property("active-pad", self._inputs[pad][1].get_target())

    def show_card(self, card: Card) -> None:
        """Draw a card and encode that."""
        if self._card is None:
            self._card = parse_bin(
                f"appsrc name=begin is-live=true format=time caps={self._drawn_caps()}"
                " ! videoconvert ! imagefreeze is-live=true allow-replace=true"
                f" ! capsfilter name=end caps={self._raw_caps()},framerate={_CARD_FPS}/1"
            )
            self._card_pad = self._join(self._card)
            self._card.sync_state_with_parent()
        pixels = draw(card, self._size.width, self._size.height)
        self._card.get_by_name("begin").emit("push-buffer", Gst.Buffer.new_wrapped(pixels))
        self._raw.set_property("active-pad", self._card_pad.get_target())

    def hide_card(self) -> None:
        """Stop drawing: it costs as long as it runs."""
        if self._card is not None:
            self._leave(self._card, self._card_pad)
            self._card = self._card_pad = None

    def remove(self, pad: Pad) -> None:
        """A received stream has ended."""
        decode, sink = self._inputs.pop(pad)
        self._leave(decode, sink)

    def _join(self, element: Element) -> Pad:
        source = ghost(element, "src", element.get_by_name("end").get_static_pad("src"))
        inner = self._raw.request_pad_simple("sink_%u")
        sink = ghost(self._bin, inner.get_name(), inner)
        self._pipeline.add(element)
        link(source, sink)
        return sink

    def _leave(self, element: Element, sink: Pad) -> None:
        remove(self._pipeline, element)
        inner = sink.get_target()
        self._bin.remove_pad(sink)
        self._raw.release_request_pad(inner)

    def _raw_caps(self) -> str:
        size = self._size
        return f"video/x-raw,format=I420,width={size.width},height={size.height},pixel-aspect-ratio=1/1"

    def _drawn_caps(self) -> str:
        return f"video/x-raw,format=BGRx,width={self._size.width},height={self._size.height},framerate=0/1"

    def close(self) -> None:
        """Stop it and take it out of the pipeline; the streams' senders must be stopped."""
        for pad in list(self._inputs):
            self.remove(pad)
        self.hide_card()
        remove(self._pipeline, self._bin)
