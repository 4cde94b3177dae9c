"""What the terminal gets: all received audio mixed, and one of the received pictures.

``audio`` and ``video`` are tees that live as long as the call; the SIP leg is one branch of each.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

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
    link,
    make,
    parse_bin,
    remove,
)
from sipmediadeploy.gateway.media.sip_stream import H264

_UPSTREAM_LATENCY_MS = 80
"""Jitter buffer (60 ms) and a packet; fixed, so that the mix does not stumble when somebody joins."""
_SLACK_MS = 20


@dataclass(frozen=True, slots=True)
class _Branch:
    element: Element
    junction: Element
    sink: Pad


class Downlink:
    """Mixer and picture selector."""

    def __init__(self, pipeline: Element) -> None:
        self._pipeline = pipeline
        self._branches: dict[Pad, _Branch] = {}
        self._lock = threading.Lock()
        self._rate = 0
        self._mixer: Element = None
        self._gate: int | None = None
        self.audio = make("tee", allow_not_linked=True)
        self.video = make("tee", allow_not_linked=True)
        self._selector = make("input-selector", sync_streams=False)
        for element in (self.audio, self.video, self._selector):
            pipeline.add(element)
        self._selector.link(self.video)

    def start_audio(self, rate: int) -> None:
        """Start the mix at ``rate`` Hz; a second call changes nothing.

        Call it when the pipeline starts: the mixer makes up for the time since then, in a burst of silence.
        """
        with self._lock:
            if self._rate:
                return
            self._rate = rate
        # Not with ignore-inactive-pads: 1.22 takes a late start of all inputs for their end, for good.
        self._mixer = make(
            "audiomixer",
            force_live=True,
            latency=_SLACK_MS * Gst.MSECOND,
            min_upstream_latency=_UPSTREAM_LATENCY_MS * Gst.MSECOND,
            output_buffer_duration=20 * Gst.MSECOND,
        )
        end = make(
            "capsfilter", caps=Gst.Caps.from_string(f"audio/x-raw,format=S16LE,rate={rate},channels=1")
        )
        for element in (self._mixer, end):
            self._pipeline.add(element)
        self._mixer.link(end)
        end.link(self.audio)
        for element in (end, self._mixer):
            element.sync_state_with_parent()

    def add_audio(self, pad: Pad) -> None:
        """Mix a received Opus stream in (called in a streaming thread)."""
        self.start_audio(48000)
        decode = parse_bin(
            "rtpopusdepay name=begin ! opusdec use-inband-fec=true plc=true"
            f" ! capsfilter name=end caps=audio/x-raw,rate={self._rate},channels=1"
        )
        self._add(pad, decode, self._mixer)

    def add_video(self, pad: Pad) -> None:
        """Show a received H.264 stream from its first IDR on (called in a streaming thread)."""
        parse = parse_bin(
            "rtph264depay name=begin request-keyframe=true ! h264parse config-interval=-1"
            f" ! capsfilter name=end caps={H264}"
        )
        self.hold_video()
        self._add(pad, parse, self._selector)
        self.request_keyframe()

    def drain(self, pad: Pad) -> None:
        """Throw a received stream away that nothing here can use."""
        self._add(pad, None, None)

    def _add(self, pad: Pad, element: Element, junction: Element) -> None:
        if element is None:
            element = make("fakesink", sync=False, **{"async": False})
            begin = element.get_static_pad("sink")
            branch = _Branch(element, None, None)
        else:
            begin = ghost(element, "sink", element.get_by_name("begin").get_static_pad("sink"))
            source = ghost(element, "src", element.get_by_name("end").get_static_pad("src"))
            branch = _Branch(element, junction, junction.request_pad_simple("sink_%u"))
        self._pipeline.add(element)
        if junction is not None:
            link(source, branch.sink)
        element.sync_state_with_parent()
        self._branches[pad] = branch
        if junction is self._selector:
            junction.set_property("active-pad", branch.sink)  # before anything flows: events keep their order
        link(pad, begin)

    def remove(self, pad: Pad) -> None:
        """A received stream has ended; its sender must be stopped (called in the main thread)."""
        branch = self._branches.pop(pad, None)
        if branch is None:
            return
        remove(self._pipeline, branch.element)
        if branch.junction is None:
            return
        branch.junction.release_request_pad(branch.sink)
        if branch.junction is self._selector:
            left = [b.sink for b in self._branches.values() if b.junction is self._selector]
            if left:
                self._selector.set_property("active-pad", left[-1])
                self.hold_video()
                self.request_keyframe()

    def hold_video(self) -> None:
        """Hold the picture back until an IDR, asking for one until it comes."""
        with self._lock:
            if self._gate is not None:
                return
            pad = self.video.get_static_pad("sink")
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
        """Ask the sender of the picture for a key frame."""
        self._selector.get_static_pad("src").send_event(force_key_unit())
