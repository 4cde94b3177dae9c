"""The sound that the terminal gets: all received audio, mixed.

``audio`` is a tee that lives as long as the call; the SIP leg is one branch of it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from sipmediadeploy.gateway.media.gstreamer import (
    Element,
    GLib,
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
_SPEECH_DELAY_MS = 100
"""What is said begins so far ahead, so that its beginning is not late for the mix."""


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
        self._said: _Branch | None = None
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

    def say(self, file: str) -> None:
        """Mix a WAV file in, from now on, in place of the one before (called in the main thread)."""
        self._hush(self._said)
        if not self._rate:
            return
        speech = parse_bin(
            "filesrc name=file ! wavparse ! audioconvert ! audioresample"
            f" ! audio/x-raw,rate={self._rate},channels=1 ! clocksync name=pace"
        )
        speech.get_by_name("file").set_property("location", file)
        source = ghost(speech, "src", speech.get_by_name("pace").get_static_pad("src"))
        branch = self._said = _Branch(speech, self._mixer.request_pad_simple("sink_%u"))

        def at_end(_pad: Pad, info: Any) -> Any:
            if info.get_event().type != Gst.EventType.EOS:
                return Gst.PadProbeReturn.OK
            GLib.idle_add(self._hush, branch)
            return Gst.PadProbeReturn.DROP  # the end of the only input would be the end of the mix

        source.add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, at_end)
        clock = self._pipeline.get_clock()
        running = clock.get_time() - self._pipeline.get_base_time() if clock is not None else 0
        speech.get_by_name("pace").set_property(
            "ts-offset", running
        )  # else a mix without others would race ahead
        source.set_offset(running + _SPEECH_DELAY_MS * Gst.MSECOND)
        self._pipeline.add(speech)
        link(source, branch.sink)
        speech.sync_state_with_parent()

    def speech_failed(self, element: Any) -> bool:
        """An error came from ``element``: True when it only costs what was being said."""
        said = self._said
        if said is None or element is None or not element.has_as_ancestor(said.element):
            return False
        self._hush(said)
        return True

    def _hush(self, branch: _Branch | None) -> bool:
        if branch is not None and branch is self._said:
            self._said = None
            remove(self._pipeline, branch.element)
            self._mixer.release_request_pad(branch.sink)
        return False

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
