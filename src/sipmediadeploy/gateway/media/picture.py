"""Which picture the terminal gets: one of the received streams, or a drawn card while none brings anything.

H.264 is passed through; VP8 and the card go through the call's one encoder. ``output`` is a tee that lives as
long as the call. Every change of what is shown begins with an IDR.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from sipmediadeploy.gateway.media.card import Card
from sipmediadeploy.gateway.media.encoder import PictureEncoder
from sipmediadeploy.gateway.media.gstreamer import (
    KEYFRAME_RETRY_MS,
    PICTURE,
    Element,
    GLib,
    Gst,
    Pad,
    before_idr,
    force_key_unit,
    ghost,
    insist_on_keyframes,
    link,
    make,
    parse_bin,
    remove,
)
from sipmediadeploy.gateway.media.sip_stream import H264
from sipmediadeploy.gateway.sip.h264 import PictureSize

_LOOK_MS = 250
SILENT_S = 1.5
"""A stream that has brought nothing for so long shows a frozen frame: the card is better."""


@dataclass(slots=True)
class _Stream:
    ssrc: int
    codec: str
    element: Element
    sink: Pad
    """Of the selector; None for what goes through the encoder."""
    position: int = -1
    """The RTP timestamp that was seen last."""
    alive_at: float = field(default_factory=time.monotonic)


class Picture:
    """Chooses, and encodes what can't be passed through."""

    def __init__(self, pipeline: Element) -> None:
        self._pipeline = pipeline
        self._lock = threading.RLock()
        self._streams: dict[Pad, _Stream] = {}
        self._wanted: int | None = None
        self._shown: Pad = None
        self._card: Card | None = None
        self._card_shown: Card | None = None
        self._size: PictureSize | None = None
        self._kbps = 0
        self._since = 0.0
        self._encoder: PictureEncoder | None = None
        self._encoder_sink: Pad = None
        self._gate: int | None = None
        self.output = make("tee", allow_not_linked=True)
        self._selector = make("input-selector", sync_streams=False)
        for element in (self.output, self._selector):
            pipeline.add(element)
        self._selector.link(self.output)
        GLib.timeout_add(_LOOK_MS, self._look)

    def set_terminal(self, size: PictureSize, kbps: int) -> None:
        """The terminal takes video: what is encoded for it is no larger than this."""
        if self._size is None:
            self._size, self._kbps, self._since = size, kbps, time.monotonic()

    def describe(self, card: Card) -> None:
        """What the card says from now on."""
        self._card = card
        if self._card_shown is not None:
            self._choose()

    def want(self, ssrc: int | None) -> None:
        """Show this stream once it is there; None: the newest one."""
        with self._lock:
            self._wanted, self._since = ssrc, time.monotonic()
            for stream in self._streams.values():
                if stream.ssrc == ssrc:  # it is said to begin: its first IDR must not be missed
                    stream.alive_at = self._since
        self._choose()

    def arrives(self) -> bool:
        """The stream that is to be shown brings something."""
        with self._lock:
            return self._best() is not None

    def add_h264(self, pad: Pad, ssrc: int) -> None:
        """A received H.264 stream (called in a streaming thread)."""
        parse = parse_bin(
            "rtph264depay name=begin request-keyframe=true ! h264parse config-interval=-1"
            f" ! capsfilter name=end caps={H264}"
        )
        begin = ghost(parse, "sink", parse.get_by_name("begin").get_static_pad("sink"))
        insist_on_keyframes(parse.get_by_name("begin"))
        source = ghost(parse, "src", parse.get_by_name("end").get_static_pad("src"))
        sink = self._selector.request_pad_simple("sink_%u")
        self._pipeline.add(parse)
        link(source, sink)
        parse.sync_state_with_parent()
        with self._lock:
            self._streams[pad] = _Stream(ssrc, "H264", parse, sink)
        self._choose()  # before anything flows: events keep their order
        link(pad, begin)
        self.request_keyframe()

    def add_vp8(self, pad: Pad, ssrc: int) -> None:
        """A received VP8 stream (called in a streaming thread)."""
        with self._lock:
            element = self._encoding().add_vp8(pad)
            self._streams[pad] = _Stream(ssrc, "VP8", element, None)
        self._choose()

    def remove(self, pad: Pad) -> bool:
        """A received stream has ended (called in the main thread); False: it is none of these."""
        with self._lock:
            stream = self._streams.pop(pad, None)
            if stream is None:
                return False
            if self._shown is pad:
                self._shown = None
        if stream.sink is None:
            self._encoding().remove(pad)
        else:
            remove(self._pipeline, stream.element)
            self._selector.release_request_pad(stream.sink)
        self._choose()
        return True

    def _encoding(self) -> PictureEncoder:
        if self._encoder is None:
            size = self._size or PictureSize(1280, 720, 30)
            self._encoder = PictureEncoder(self._pipeline, size, self._kbps or 1500)
            self._encoder_sink = self._selector.request_pad_simple("sink_%u")
            link(self._encoder.source, self._encoder_sink)
            self._encoder.start()
        return self._encoder

    def _best(self) -> Pad:
        """The stream to show, or None."""
        now = time.monotonic()
        fitting = [
            pad
            for pad, stream in self._streams.items()
            if self._wanted in (None, stream.ssrc) and now - stream.alive_at < SILENT_S
        ]
        return fitting[-1] if fitting else None

    def _choose(self) -> None:
        with self._lock:
            best = self._best()
            if best is not None:
                self._show(best)
            elif self._card_is_due():
                self._show_card()

    def _show(self, pad: Pad) -> None:
        if self._shown is pad:
            return
        stream = self._streams[pad]
        self._shown = pad
        if stream.sink is None:
            self._encoding().show(pad)
        self._selector.set_property("active-pad", stream.sink or self._encoder_sink)
        if self._card_shown is not None:
            self._card_shown = None
            self._encoding().hide_card()
        self.hold()
        self.request_keyframe()

    def _card_is_due(self) -> bool:
        streams = [s for s in self._streams.values() if self._wanted in (None, s.ssrc)]
        quiet = time.monotonic() - max([self._since, *(s.alive_at for s in streams)])
        return self._card is not None and self._size is not None and quiet >= SILENT_S

    def _show_card(self) -> None:
        assert self._card is not None
        if self._card == self._card_shown:
            return
        new = self._card_shown is None
        self._shown, self._card_shown = None, self._card
        self._encoding().show_card(self._card)
        self._selector.set_property("active-pad", self._encoder_sink)
        if new:
            self.hold()
        self.request_keyframe()

    def _look(self) -> bool:
        """Notice streams that fall silent or come back (in the main thread)."""
        now = time.monotonic()
        with self._lock:
            for stream in self._streams.values():
                begin = stream.element.get_by_name("begin")
                position = begin.get_property("stats").get_value("timestamp")
                if position != stream.position:
                    stream.position, stream.alive_at = position, now
        self._choose()
        return True

    def hold(self) -> None:
        """Hold the picture back until an IDR, asking for one until it comes."""
        with self._lock:
            if self._gate is not None:
                return
            pad = self.output.get_static_pad("sink")
            self._gate = pad.add_probe(PICTURE, self._until_idr)
        GLib.timeout_add(KEYFRAME_RETRY_MS, self._retry)

    def _until_idr(self, _pad: Pad, info: Any) -> Any:
        answer = before_idr(info)
        if answer == Gst.PadProbeReturn.REMOVE:
            with self._lock:
                self._gate = None
        return answer

    def _retry(self) -> bool:
        if self._gate is not None:
            self.request_keyframe()
        return self._gate is not None

    def request_keyframe(self) -> None:
        """Ask whoever makes the picture for a key frame; a decoder needs one of its sender, too."""
        shown = self._shown
        self._selector.get_static_pad("src").send_event(force_key_unit())
        if shown is not None and shown in self._streams and self._streams[shown].sink is None:
            shown.send_event(force_key_unit())
