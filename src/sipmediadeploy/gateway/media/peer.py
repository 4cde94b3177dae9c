"""One WebRTC peer connection: offer and answer in one piece (no trickling of our own), streams in and out.

The calls block the worker's main thread for some ten milliseconds, at most for the time limits below;
webrtcbin works in threads of its own, and the process carries one call only.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sipmediadeploy.gateway.media.api import IceServers, MediaError
from sipmediadeploy.gateway.media.data_channel import DataChannel
from sipmediadeploy.gateway.media.gstreamer import (
    Element,
    GLib,
    Gst,
    GstRtp,
    GstSdp,
    GstWebRTC,
    Outlet,
    Pad,
    first_caps,
    ghost,
    hold_until_idr,
    link,
    make,
    parse_bin,
    remove,
)
from sipmediadeploy.gateway.media.sip_leg import SYNC_STEP_NS
from sipmediadeploy.gateway.media.sip_stream import VIDEO_MTU
from sipmediadeploy.gateway.media.webrtc_sdp import (
    AUDIO_LEVEL_URI,
    Description,
    for_platform,
    for_webrtcbin,
    parse_sdp,
    profiles_of,
    with_receiver,
)

LATENCY_MS = 60
GATHER_LIMIT_S = 3.0
OTHER_RELAYS_S = 0.5
"""How long other TURN servers may take after the first has given its candidate."""
PROMISE_LIMIT_S = 5.0
_OPUS_PT, _H264_PT, _LEVEL_ID = 111, 102, 1
_Direction = GstWebRTC.WebRTCRTPTransceiverDirection


@dataclass(frozen=True, slots=True)
class Uplink:
    """What a sending peer connection takes: tees of Opus and of H.264 (None without video)."""

    audio: Element
    video: Element | None
    profile_level_id: str
    request_keyframe: Callable[[], None]


@dataclass(frozen=True, slots=True)
class PeerEvents:
    """Callbacks; ``state`` comes from webrtcbin's thread, the others from streaming or the main thread."""

    state: Callable[[str], None]
    audio_added: Callable[[Pad], None]
    h264_added: Callable[[Pad, int], None]
    """With the stream's SSRC, as the next one."""
    vp8_added: Callable[[Pad, int], None]
    other_added: Callable[[Pad], None]
    removed: Callable[[Pad], None]
    channel: Callable[[str | None], None]
    """A message over the data channel; None: it is open."""


@dataclass(slots=True)
class _Sending:
    tee: Element
    payloader: Element
    outlet: Outlet | None = None


class Peer:
    """A webrtcbin in the call's pipeline."""

    def __init__(self, pipeline: Element, ice: IceServers, uplink: Uplink | None, events: PeerEvents) -> None:
        self._pipeline, self._uplink, self._events = pipeline, uplink, events
        self._sending: dict[int, _Sending] = {}
        self._pads: list[Pad] = []
        self._buffers: dict[int, Any] = {}
        self._payload_types: dict[int, Any] = {}
        self._candidates: list[tuple[int, str]] = []
        self._gathered, self._all_relayed = threading.Event(), threading.Event()
        self._relays = len(ice.turn_uris)
        self._state = "new"
        self._closed = False
        self._allocates = bool(ice.turn_uris)
        w = self._webrtc = make("webrtcbin", latency=LATENCY_MS, bundle_policy="max-bundle")
        self._ice = w.get_property("ice-agent")  # the getter gives its reference away: keep it, and ask once
        self._ice.set_property("ice-tcp", False)
        agent = self._agent = self._ice.get_property("agent")
        agent.set_property("upnp", False)  # else gathering waits 200 ms for a router
        agent.set_property("keepalive-conncheck", True)  # notices a peer that has gone
        for uri in ice.turn_uris:
            w.emit("add-turn-server", uri)
        if ice.relay_only:
            w.set_property("ice-transport-policy", GstWebRTC.WebRTCICETransportPolicy.RELAY)
        rtpbin = w.get_by_name("rtpbin")
        rtpbin.set_property("rtcp-sync-send-time", False)
        rtpbin.set_property("max-ts-offset-adjustment", SYNC_STEP_NS)
        rtpbin.connect("new-jitterbuffer", self._new_jitterbuffer)
        rtpbin.connect("request-pt-map", self._payload_caps)
        w.connect("on-ice-candidate", self._candidate)
        w.connect("on-new-transceiver", _repair_video)
        w.connect("notify::ice-gathering-state", self._gathering)
        w.connect("notify::connection-state", self._connection)
        w.connect("element-added", _send_at_once)
        self.channel = DataChannel(w, events.channel)
        w.connect("pad-added", self._pad_added)
        w.connect("pad-removed", self._pad_removed)
        pipeline.add(w)
        w.sync_state_with_parent()

    def offer(self, receive: bool = False) -> str:
        """A complete offer that sends the uplink; with ``receive`` its sections receive, too.

        A peer connection that only sends must not get RTP: webrtcbin then stops receiving RTCP as well.

        Raises:
            MediaError: the peer was not made for sending, or webrtcbin makes no offer.
        """
        if self._uplink is None:
            raise MediaError("this peer connection does not send: it makes no offer")
        if not self._sending:
            direction = _Direction.SENDRECV if receive else _Direction.SENDONLY
            self._send_audio(0, _OPUS_PT, _LEVEL_ID, direction)
            if self._uplink.video is not None:
                self._send_video(1, _H264_PT, direction)
        self.channel.make()
        local = self._make("offer")
        return for_platform(local, self._candidates, {_H264_PT: self._uplink.profile_level_id}, offer=True)

    def set_answer(self, sdp: str) -> None:
        """Take the answer to :meth:`offer`.

        Raises:
            MediaError: webrtcbin can't use it.
        """
        self._set_remote(GstWebRTC.WebRTCSDPType.ANSWER, _parse(sdp))

    def answer(self, sdp: str) -> str:
        """A complete answer to a first or renewed offer.

        Raises:
            MediaError: webrtcbin can't use it.
        """
        remote = _parse(sdp)
        if self._uplink is not None and not self._sending:
            self._send_into(remote)
        self._set_remote(GstWebRTC.WebRTCSDPType.OFFER, remote)
        if any(section.kind == "application" for section in remote.media):
            self.channel.make()
        local = self._make("answer")
        if self._uplink is None:
            local = self._name_receiver(local)
        return for_platform(local, self._candidates, profiles_of(remote), offer=False)

    def add_candidate(self, mline: int, candidate: str) -> None:
        """A trickled remote candidate, with or without ``a=``."""
        self._webrtc.emit("add-ice-candidate", mline, candidate.removeprefix("a="))

    def close(self) -> None:
        """End it and take all that belongs to it out of the pipeline."""
        self._closed = True
        for sending in self._sending.values():
            if sending.outlet is not None:
                sending.outlet.close()
        remove(self._pipeline, self._webrtc, *(s.payloader for s in self._sending.values()))
        for pad in self._pads:
            self._events.removed(pad)
        self._sending.clear()
        self._pads.clear()
        self.channel.close()

    def give_relays_back(self, done: Callable[[Peer], None]) -> None:
        """End the allocations on TURN servers, which else keep a port for ten minutes after the call.

        The main loop calls ``done`` when they have answered; this object must live until then.
        """
        if not self._allocates:
            done(self)
            return
        self._allocates = False
        self._agent.close_async(lambda *_: done(self))

    def owns(self, element: Any) -> bool:
        """The element is a part of this peer connection."""
        return element is not None and bool(element.has_as_ancestor(self._webrtc))

    def _send_into(self, remote: Description) -> None:
        """Send in the first audio and video section of an offer that takes what we have."""
        uplink, found = self._uplink, set()
        for index, section in enumerate(remote.media):
            codec = {"audio": "OPUS", "video": "H264"}.get(section.kind)
            pt = section.payload_type(codec) if codec and section.receives and codec not in found else None
            if pt is None or uplink is None:
                continue
            if codec == "OPUS":
                self._send_audio(index, pt, section.extension(AUDIO_LEVEL_URI), _Direction.SENDRECV)
            elif uplink.video is not None:
                self._send_video(index, pt, _Direction.SENDRECV)
            found.add(codec)

    def _send_audio(self, mline: int, pt: int, level_id: int | None, direction: Any) -> None:
        assert self._uplink is not None
        payload = parse_bin(f"rtpopuspay name=pay pt={pt}")
        caps = "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2"
        if level_id is not None:
            extension = GstRtp.RTPHeaderExtension.create_from_uri(AUDIO_LEVEL_URI)
            extension.set_id(level_id)
            payload.get_by_name("pay").emit("add-extension", extension)
            caps += f',extmap-{level_id}=(string)< "", "{AUDIO_LEVEL_URI}", "vad=on" >'
        self._send(mline, self._uplink.audio, payload, f"{caps},payload={pt}", direction)

    def _send_video(self, mline: int, pt: int, direction: Any) -> None:
        assert self._uplink is not None
        payload = parse_bin(
            f"rtph264pay name=pay pt={pt} mtu={VIDEO_MTU} config-interval=-1 aggregate-mode=zero-latency"
        )
        caps = (
            "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,packetization-mode=(string)1"
            f",payload={pt},rtcp-fb-nack-pli=(boolean)true,rtcp-fb-ccm-fir=(boolean)true"
        )
        self._send(mline, self._uplink.video, payload, caps, direction).set_property("do-nack", True)

    def _send(self, mline: int, tee: Element, payload: Element, caps: str, direction: Any) -> Any:
        pay = payload.get_by_name("pay")
        ssrc = random.getrandbits(32)
        pay.set_property("ssrc", ssrc)
        ghost(payload, "sink", pay.get_static_pad("sink"))
        source = ghost(payload, "src", pay.get_static_pad("src"))
        wanted = Gst.Caps.from_string(f"{caps},ssrc=(uint){ssrc}")
        template = self._webrtc.get_pad_template("sink_%u")
        sink = self._webrtc.request_pad(template, f"sink_{mline}", wanted)
        if sink is None:
            raise MediaError(f"webrtcbin takes no stream for m-line {mline}")
        transceiver = sink.get_property("transceiver")
        transceiver.set_property("codec-preferences", wanted)
        transceiver.set_property("direction", direction)
        self._pipeline.add(payload)
        link(source, sink)
        payload.sync_state_with_parent()
        self._sending[mline] = _Sending(tee, payload)
        return transceiver

    def _make(self, kind: str) -> Description:
        reply = self._ask(f"create-{kind}", None)
        description = reply.get_value(kind)  # owned by the reply, which must live until the copy below
        self._ask("set-local-description", description)
        text = description.sdp.as_text()
        self._gathered.wait(GATHER_LIMIT_S)
        if self._relays:
            self._all_relayed.wait(OTHER_RELAYS_S)
        return parse_sdp(text)

    def _name_receiver(self, local: Description) -> Description:
        rtpbin = self._webrtc.get_by_name("rtpbin")
        session = rtpbin.emit("get-internal-session", 0)  # that of the bundle
        if session is None:
            return local
        cname = rtpbin.get_property("sdes").get_string("cname")
        return with_receiver(local, session.get_property("internal-ssrc"), cname)

    def _set_remote(self, kind: Any, remote: Description) -> None:
        result, message = GstSdp.SDPMessage.new_from_text(for_webrtcbin(remote))
        if result != GstSdp.SDPResult.OK:
            raise MediaError("the remote SDP can't be parsed")
        self._payload_types |= _caps_of(message)
        description = GstWebRTC.WebRTCSessionDescription.new(kind, message)
        self._ask("set-remote-description", description)

    def _ask(self, action: str, argument: Any) -> Any:
        """Emit one of webrtcbin's actions and wait for its promise's reply."""
        done = threading.Event()
        promise = Gst.Promise.new_with_change_func(lambda _promise: done.set())
        self._webrtc.emit(action, argument, promise)
        if not done.wait(PROMISE_LIMIT_S):
            raise MediaError(f"webrtcbin did not finish {action} within {PROMISE_LIMIT_S:.0f} s")
        reply = promise.get_reply()
        if reply is not None and reply.has_field("error"):
            raise MediaError(f"webrtcbin {action}: {reply.get_value('error').message}")
        return reply

    def _candidate(self, _webrtc: Any, mline: int, text: str) -> None:
        self._candidates.append((mline, text))
        if " typ relay" in text:
            # The relayed candidates are the last that are of use; libnice goes on for 2 s with addresses
            # from which the TURN server can't be reached.
            self._relays -= 1
            self._gathered.set()
            if self._relays <= 0:
                self._all_relayed.set()

    def _gathering(self, webrtc: Any, _spec: Any) -> None:
        if webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            self._gathered.set()
            self._all_relayed.set()

    def _connection(self, webrtc: Any, _spec: Any) -> None:
        state = webrtc.get_property("connection-state").value_nick
        if self._closed or state == self._state:
            return
        self._state = state
        if state == "connected":
            GLib.idle_add(self._connect)
        if state in ("connected", "disconnected", "failed", "closed"):
            self._events.state(state)

    def _connect(self) -> bool:
        """Let the uplink flow; before this moment webrtcbin would block it."""
        if not self._closed:
            for sending in self._sending.values():
                if sending.outlet is None:
                    sink = sending.payloader.get_static_pad("sink")
                    if self._uplink is not None and sending.tee is self._uplink.video:
                        hold_until_idr(sink, self._uplink.request_keyframe)
                    sending.outlet = Outlet(sending.tee, sink)
            if self._uplink is not None:
                self._uplink.request_keyframe()
        return False

    def _payload_caps(self, _rtpbin: Any, _session: int, payload_type: int) -> Any:
        """Take all that the remote side said it may send.

        webrtcbin knows the one codec of each section that its own description names; a bridge that forwards
        others' streams sends any that was offered.
        """
        return self._payload_types.get(payload_type)

    def _new_jitterbuffer(self, _rtpbin: Any, buffer: Any, _session: int, ssrc: int) -> None:
        buffer.set_property("do-retransmission", False)  # on audio it would only make false NACKs
        # Else a pause is a loss: the next packet is given up before it is sent, and is dropped when it comes.
        buffer.set_property("rtx-next-seqnum", False)
        self._buffers[ssrc] = buffer

    def _pad_added(self, _webrtc: Any, pad: Pad) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        self._pads.append(pad)
        caps = first_caps(pad)
        codec = (caps.get_string("encoding-name") or "").upper()
        if codec == "OPUS":
            self._events.audio_added(pad)
        elif codec in ("H264", "VP8"):
            ssrc = int(pad.get_target().get_name().split("_")[4])
            if ssrc in self._buffers:
                self._buffers[ssrc].set_property("do-retransmission", True)
            (self._events.h264_added if codec == "H264" else self._events.vp8_added)(pad, ssrc)
        else:
            self._events.other_added(pad)

    def _pad_removed(self, _webrtc: Any, pad: Pad) -> None:
        if pad in self._pads and not self._closed:
            self._pads.remove(pad)
            GLib.idle_add(self._events.removed, pad)


def _caps_of(message: Any) -> dict[int, Any]:
    """RTP caps of all payload types in a description."""
    found = {}
    for index in range(message.medias_len()):
        media = message.get_media(index)
        for position in range(media.formats_len()):
            number = media.get_format(position)
            caps = media.get_caps_from_media(int(number)) if number.isdigit() else None
            if caps is not None:
                media.attributes_to_caps(caps)
                text = caps.to_string().replace("application/x-unknown", "application/x-rtp", 1)
                found[int(number)] = Gst.Caps.from_string(text)
    return found


def _send_at_once(_webrtc: Any, element: Element) -> None:
    """Keep webrtcbin from holding packets back until the pipeline's latency has passed.

    That latency changes while peer connections come up. To the receiver a change of delay on the way looks
    like a change of the sender's clock: its jitter buffer starts anew, with a gap (decision 0014).
    """
    factory = element.get_factory()
    if factory is not None and factory.get_name() == "clocksync":
        element.set_property("sync", False)


def _repair_video(_webrtc: Any, transceiver: Any) -> None:
    """Negotiate retransmission (RFC 4588) for video that comes in."""
    if transceiver.get_property("kind") == GstWebRTC.WebRTCKind.VIDEO:
        transceiver.set_property("do-nack", True)


def _parse(sdp: str) -> Description:
    try:
        return parse_sdp(sdp)
    except ValueError as error:
        raise MediaError(str(error)) from error
