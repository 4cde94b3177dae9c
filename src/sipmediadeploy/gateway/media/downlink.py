"""The sound that the terminal gets: all received audio, mixed.

``audio`` is a tee that lives as long as the call; the SIP leg is one branch of it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sipmediadeploy.gateway.media.gstreamer import (
    Element,
    Gst,
    Pad,
    ghost,
    link,
    make,
    parse_bin,
    remove,
)

_UPSTREAM_LATENCY_MS = 80
"""Jitter buffer (60 ms) and a packet; fixed, so that the mix does not stumble when somebody joins."""
_SLACK_MS = 20


@dataclass(frozen=True, slots=True)
class _Branch:
    element: Element
    sink: Pad
    """Of the mixer; None for what is thrown away."""


class Downlink:
    """The mixer and its inputs."""

    def __init__(self, pipeline: Element) -> None:
        self._pipeline = pipeline
        self._branches: dict[Pad, _Branch] = {}
        self._lock = threading.Lock()
        self._rate = 0
        self._mixer: Element = None
        self.audio = make("tee", allow_not_linked=True)
        pipeline.add(self.audio)

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
        begin = ghost(decode, "sink", decode.get_by_name("begin").get_static_pad("sink"))
        source = ghost(decode, "src", decode.get_by_name("end").get_static_pad("src"))
        branch = _Branch(decode, self._mixer.request_pad_simple("sink_%u"))
        self._pipeline.add(decode)
        link(source, branch.sink)
        decode.sync_state_with_parent()
        self._branches[pad] = branch
        link(pad, begin)

    def drain(self, pad: Pad) -> None:
        """Throw a received stream away that nothing here can use."""
        sink = make("fakesink", sync=False, **{"async": False})
        self._pipeline.add(sink)
        sink.sync_state_with_parent()
        self._branches[pad] = _Branch(sink, None)
        link(pad, sink.get_static_pad("sink"))

    def remove(self, pad: Pad) -> None:
        """A received stream has ended; its sender must be stopped (called in the main thread)."""
        branch = self._branches.pop(pad, None)
        if branch is None:
            return
        remove(self._pipeline, branch.element)
        if branch.sink is not None:
            self._mixer.release_request_pad(branch.sink)
