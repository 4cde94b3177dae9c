"""The SIP side of a call: one RTP session each for audio and video, decoded and encoded as far as need be.

Four pads of one bin: ``audio_src`` gives Opus with audio-level metadata, ``video_src`` H.264 access units,
both as the terminal sends them; ``audio_sink`` takes raw mono audio, ``video_sink`` H.264 access units for
the terminal.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sipmediadeploy.gateway.media.api import MediaStats, SipMedia, VideoStream
from sipmediadeploy.gateway.media.gstreamer import (
    Gst,
    Pad,
    force_key_unit,
    ghost,
    is_force_key_unit,
    make,
)
from sipmediadeploy.gateway.media.sip_stream import (
    Numbering,
    SipStream,
    StreamEvents,
    new_numbering,
    receives,
)

JITTERBUFFER_MS = 50
SYNC_STEP_NS = 1_000_000
"""Sender reports bring sound and picture into step by so much a packet. At once it is a gap: 75 ms were seen
in a new call, and taken back after some seconds (decision 0014)."""
_MAX_SSRCS = 8
"""Streams that one session keeps apart; a flood of SSRCs must not become a flood of threads."""
AUDIO, VIDEO = 0, 1
"""RTP session numbers."""


@dataclass(frozen=True, slots=True)
class LegEvents:
    """Callbacks, called from streaming threads."""

    keyframe_wanted: Callable[[], None]
    dtmf: Callable[[str], None]
    video_moved: Callable[[], None]
    """What was sent as video so far went to an address where the terminal is not."""


def same_streams(old: SipMedia, new: SipMedia) -> bool:
    """Whether a running leg can take the new negotiation: only addresses, directions and rates differ."""

    def fixed(media: SipMedia) -> tuple[object, ...]:
        a, v = media.audio, media.video
        return (
            media.bind_address,
            a and (a.codec, a.payload_type, a.local_port, a.ptime_ms, a.dtmf_payload_type),
            v and (v.payload_type, v.local_port, v.pli, v.fir),
        )

    return fixed(old) == fixed(new)


class SipLeg:
    """One negotiated SIP side. The owner adds ``bin`` to the pipeline and links its pads."""

    def __init__(self, media: SipMedia, events: LegEvents, numbering: Mapping[int, Numbering]) -> None:
        """Bind the ports and build the elements.

        Raises:
            MediaError: a port can't be bound, an element is missing.
        """
        self.media = media
        self._events = events
        self._fir = 0
        self._streams: dict[int, SipStream] = {}
        heard = {
            AUDIO: StreamEvents(events.dtmf, lambda: None),
            VIDEO: StreamEvents(events.dtmf, events.video_moved),
        }
        self.bin = Gst.Bin.new(None)
        self._rtpbin = _rtpbin()
        self._rtpbin.connect("request-pt-map", self._caps)
        self._rtpbin.connect("pad-added", self._pad_added)
        self._rtpbin.connect("pad-removed", self._pad_removed)
        self.bin.add(self._rtpbin)
        try:
            for session, name, stream in ((AUDIO, "audio", media.audio), (VIDEO, "video", media.video)):
                if stream is None:
                    continue
                at = numbering.get(session) or new_numbering()
                built = SipStream(
                    self.bin, self._rtpbin, session, media.bind_address, stream, at, heard[session]
                )
                self._streams[session] = built
                ghost(self.bin, f"{name}_src", built.source)
                ghost(self.bin, f"{name}_sink", built.sink)
        except Exception:
            self.close()
            raise
        if VIDEO in self._streams:
            self._streams[VIDEO].depay_sink.add_probe(Gst.PadProbeType.EVENT_UPSTREAM, self._upstream)

    def change(self, media: SipMedia) -> None:
        """Take a renewed negotiation for which :func:`same_streams` holds; latches anew."""
        self.media = media
        for session, stream in ((AUDIO, media.audio), (VIDEO, media.video)):
            if stream is not None:
                self._streams[session].redirect(stream)

    def pad(self, name: str) -> Pad:
        """A pad of the bin (see the module), or None when the medium was not negotiated."""
        return self.bin.get_static_pad(name)

    def request_keyframe(self) -> None:
        """Ask the terminal for a key frame, by RTCP or else by the ``keyframe_wanted`` event."""
        video = self._streams.get(VIDEO)
        if video is not None and receives(video.stream.direction):
            video.source.send_event(force_key_unit())

    def expects_rtp(self) -> bool:
        """The terminal should be sending something."""
        return any(receives(s.stream.direction) for s in self._streams.values())

    def numbering(self) -> dict[int, Numbering]:
        """Where the outgoing streams' RTP numbering stands, by session."""
        return {session: stream.numbering() for session, stream in self._streams.items()}

    def stats(self) -> MediaStats:
        """Counters since the leg was built."""
        found = {}
        for session, name in ((AUDIO, "audio"), (VIDEO, "video")):
            if session in self._streams:
                found[f"{name}_in"], found[f"{name}_out"] = self._streams[session].stats()
        return MediaStats(**found)

    def close(self) -> None:
        """Stop it and give the ports back."""
        self.bin.set_locked_state(True)
        self.bin.set_state(Gst.State.NULL)
        for stream in self._streams.values():
            stream.close()

    def _caps(self, _rtpbin: Any, session: int, payload_type: int) -> Any:
        return self._streams[session].caps(payload_type)

    def _pad_added(self, _rtpbin: Any, pad: Pad) -> None:
        if m := re.fullmatch(r"recv_rtp_src_(\d+)_\d+_(\d+)", pad.get_name()):
            self._streams[int(m[1])].pad_added(pad, int(m[2]))

    def _pad_removed(self, _rtpbin: Any, pad: Pad) -> None:
        if m := re.match(r"recv_rtp_src_(\d+)_", pad.get_name()):
            self._streams[int(m[1])].pad_removed(pad)

    def _upstream(self, pad: Pad, info: Any) -> Any:
        """Turn key-frame requests into FIR, or hand them to SIP, when the terminal takes no PLI."""
        stream, event = self._streams[VIDEO].stream, info.get_event()
        if not isinstance(stream, VideoStream) or stream.pli or not is_force_key_unit(event):
            return Gst.PadProbeReturn.OK
        if not stream.fir:
            self._events.keyframe_wanted()
            return Gst.PadProbeReturn.DROP
        if event.get_structure().get_value("all-headers"):
            return Gst.PadProbeReturn.OK
        self._fir = (self._fir + 1) % 256
        pad.push_event(force_key_unit(fir=self._fir))
        return Gst.PadProbeReturn.DROP


def _rtpbin() -> Any:
    rtpbin = make(
        "rtpbin",
        latency=JITTERBUFFER_MS,
        autoremove=True,
        max_streams=_MAX_SSRCS,
        do_lost=True,
        rtcp_sync_send_time=False,
        max_ts_offset_adjustment=SYNC_STEP_NS,
        rtp_profile="avpf",
    )
    cname = f"application/x-rtp-source-sdes,cname=(string)s{random.getrandbits(64):016x}"
    rtpbin.set_property("sdes", Gst.Structure.new_from_string(cname))
    return rtpbin
