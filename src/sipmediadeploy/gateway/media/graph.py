"""A call's media graph: one pipeline with the SIP leg, the mix, the picture and the peer connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sipmediadeploy.gateway.media.api import IceServers, MediaError, MediaStats, SipMedia, VideoStream
from sipmediadeploy.gateway.media.card import Card
from sipmediadeploy.gateway.media.downlink import Downlink
from sipmediadeploy.gateway.media.gstreamer import (
    Element,
    GLib,
    Gst,
    Outlet,
    Pad,
    hold_until_idr,
    link,
    make,
    renew_key_requests,
)
from sipmediadeploy.gateway.media.peer import Peer, PeerEvents, Uplink
from sipmediadeploy.gateway.media.picture import Picture
from sipmediadeploy.gateway.media.sip_leg import LegEvents, SipLeg, same_streams
from sipmediadeploy.gateway.media.sip_stream import Numbering, audio_rate, receives, sends
from sipmediadeploy.gateway.sip.h264 import largest_picture, parse_profile_level

_KEYFRAME_WANTED_INTERVAL_S = 1.0
_LOOK_S = 0.005

Emit = Callable[..., None]
"""``emit(event, *arguments)``; safe to call from any thread."""


class MediaGraph:
    """What the worker does for its call; its methods are those of ``MediaWorker``, run in the main thread."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._peers: dict[str, Peer] = {}
        self._leaving: set[Peer] = set()
        """Closed ones, whose TURN servers have not ended the allocations yet."""
        self._leg: SipLeg | None = None
        self._outlets: list[Outlet] = []
        self._keyframe_asked = 0.0
        self._numbering: dict[int, Numbering] = {}
        self._timeout_s = 0.0
        self._heard = (0, 0.0)
        self._playing = False
        self._dams: dict[Element, int] = {}
        self._pipeline = Gst.Pipeline.new(None)
        self._audio_up = make("tee", allow_not_linked=True)
        self._video_up = make("tee", allow_not_linked=True)
        for tee in (self._audio_up, self._video_up):
            self._pipeline.add(tee)
        renew_key_requests(self._video_up)
        self._down = Downlink(self._pipeline)
        self._picture = Picture(self._pipeline)
        renew_key_requests(self._picture.output)
        bus = self._pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self._error)
        bus.connect("message::latency", lambda *_: self._pipeline.recalculate_latency())
        GLib.timeout_add(500, self._watch_rtp)

    def start_sip(self, media: SipMedia, rtp_timeout_s: float) -> None:
        """Start or change the SIP side."""
        self._timeout_s = rtp_timeout_s
        self._heard = (-1, time.monotonic())
        old = self._leg.media if self._leg else None
        if self._leg is not None and same_streams(self._leg.media, media):
            self._leg.change(media)
        else:
            self._replace_leg(media)
        if media.video is not None:
            self._picture.set_terminal(largest_picture(_level(media.video)), media.video.kbps)
            if sends(media.video.direction) and (
                old is None or old.video is None or not sends(old.video.direction)
            ):
                self.video_switched()
            if receives(media.video.direction) and old is not None:
                self._request_terminal_keyframe()

    def _replace_leg(self, media: SipMedia) -> None:
        if self._leg is not None:
            self._numbering |= self._leg.numbering()
            self._drop_leg()
        self._play()
        self._down.start_audio(audio_rate(media.audio.codec) if media.audio else 48000)
        leg = SipLeg(
            media,
            LegEvents(self._keyframe_wanted, lambda d: self._emit("dtmf", d), self.video_switched),
            self._numbering,
        )
        self._pipeline.add(leg.bin)
        self._leg = leg
        for name, up in (("audio", self._audio_up), ("video", self._video_up)):
            if leg.pad(f"{name}_src") is not None:
                link(leg.pad(f"{name}_src"), up.get_static_pad("sink"))
        leg.bin.sync_state_with_parent()
        for name, down in (("audio", self._down.audio), ("video", self._picture.output)):
            if leg.pad(f"{name}_sink") is not None:
                self._outlets.append(Outlet(down, leg.pad(f"{name}_sink")))

    def _play(self) -> None:
        """Begin with the call's first part, not before: time in the pipeline is time in the call."""
        if not self._playing:
            self._playing = True
            self._pipeline.set_state(Gst.State.PLAYING)

    def _drop_leg(self) -> None:
        assert self._leg is not None
        for outlet in self._outlets:
            outlet.close()
        self._outlets.clear()
        leg, self._leg = self._leg, None
        leg.close()
        self._pipeline.remove(leg.bin)

    def create_peer(self, peer: str, ice: IceServers, send: bool) -> None:
        """Create a peer connection."""
        if peer in self._peers:
            raise MediaError(f"peer connection {peer} exists already")
        self._play()
        events = PeerEvents(
            state=lambda state: self._emit("connection", peer, state),
            audio_added=self._down.add_audio,
            h264_added=self._picture.add_h264,
            vp8_added=self._picture.add_vp8,
            other_added=self._down.drain,
            removed=self._removed,
            channel=lambda text: self._emit("channel", peer, text),
        )
        self._peers[peer] = Peer(self._pipeline, ice, self._uplink() if send else None, events)

    def _removed(self, pad: Pad) -> None:
        if not self._picture.remove(pad):
            self._down.remove(pad)

    def _uplink(self) -> Uplink:
        video = self._leg.media.video if self._leg else None
        profile = video.profile_level_id if video else "42e01f"
        tee = self._video_up if video else None
        return Uplink(self._audio_up, tee, profile, self._request_terminal_keyframe)

    def peer(self, name: str) -> Peer:
        """A peer connection by its id."""
        try:
            return self._peers[name]
        except KeyError:
            raise MediaError(f"no peer connection {name}") from None

    def close_peer(self, peer: str) -> None:
        """Close a peer connection; one that is gone already is fine."""
        found = self._peers.pop(peer, None)
        if found is not None:
            found.close()
            self._give_relays_back(found)

    def _give_relays_back(self, peer: Peer) -> None:
        self._leaving.add(peer)
        peer.give_relays_back(self._leaving.discard)

    def end(self, within_s: float) -> None:
        """The process is about to end: TURN servers have ``within_s`` to end what they have allocated."""
        deadline = time.monotonic() + within_s
        for peer in self._peers.values():
            self._give_relays_back(peer)
        context = GLib.MainContext.default()
        while self._leaving and time.monotonic() < deadline:
            if not context.iteration(False):
                time.sleep(_LOOK_S)

    def send_uplink(self, audio: bool, video: bool) -> None:
        """Hold sound or picture of the terminal back, or let it go out again."""
        for tee, flows in ((self._audio_up, audio), (self._video_up, video)):
            pad, dam = tee.get_static_pad("sink"), self._dams.pop(tee, None)
            if dam is not None:
                pad.remove_probe(dam)
                if flows and tee is self._video_up:
                    hold_until_idr(pad, self._request_terminal_keyframe)
                    self._request_terminal_keyframe()
            if not flows:
                self._dams[tee] = pad.add_probe(Gst.PadProbeType.BUFFER, lambda *_: Gst.PadProbeReturn.DROP)

    def video_switched(self) -> None:
        """Hold the picture back until an IDR, and ask for one."""
        self._picture.hold()
        self._picture.request_keyframe()

    def show_video(self, ssrc: int | None) -> None:
        """Show this stream; None: the newest."""
        self._picture.want(ssrc)

    def video_arrives(self) -> bool:
        """The video stream that is to be shown brings something."""
        return self._picture.arrives()

    def describe(self, card: Card) -> None:
        """What the terminal sees while nobody sends video."""
        self._picture.describe(card)

    def say(self, file: str) -> None:
        """Play a sound file to the terminal."""
        self._down.say(file)

    def send_keyframe(self) -> None:
        """Ask the conference for a key frame."""
        self._picture.request_keyframe()

    def stats(self) -> MediaStats:
        """Counters of the SIP side."""
        return self._leg.stats() if self._leg else MediaStats()

    def _request_terminal_keyframe(self) -> None:
        if self._leg is not None:
            self._leg.request_keyframe()

    def _keyframe_wanted(self) -> None:
        now = time.monotonic()
        if now - self._keyframe_asked >= _KEYFRAME_WANTED_INTERVAL_S:
            self._keyframe_asked = now
            self._emit("keyframe_wanted")

    def _watch_rtp(self) -> bool:
        leg, now = self._leg, time.monotonic()
        if leg is None or not leg.expects_rtp() or self._timeout_s <= 0:
            self._heard = (-1, now)
            return True
        stats = leg.stats()
        packets = stats.audio_in.packets + stats.video_in.packets
        seen, since = self._heard
        if packets != seen:
            self._heard = (packets, now)
        elif now - since >= self._timeout_s:
            self._heard = (packets, now)
            self._emit("rtp_timeout")
        return True

    def _error(self, _bus: Any, message: Any) -> None:
        for name, peer in self._peers.items():
            if peer.owns(message.src):  # a broken DTLS association costs its peer connection, not the call
                self._emit("connection", name, "failed")
                return
        source = message.src
        gone = source not in (None, self._pipeline) and not source.has_as_ancestor(self._pipeline)
        if gone or self._down.speech_failed(source):
            return
        error, detail = message.parse_error()
        where = message.src.get_path_string() if message.src else "?"
        self._emit("fatal", f"GStreamer: {error.message.rstrip('.')} ({where}; {(detail or '')[-300:]})")


def _level(video: VideoStream) -> float:
    parsed = parse_profile_level(video.profile_level_id)
    return parsed.level if parsed is not None else 10
