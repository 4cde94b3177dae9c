"""One RTP stream of the SIP side, both ways: sockets, RTP session, payload and what is between."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sipmediadeploy.gateway.media.api import AudioStream, Direction, StreamStats, VideoStream
from sipmediadeploy.gateway.media.dtmf import DigitDetector
from sipmediadeploy.gateway.media.gstreamer import (
    Element,
    Gst,
    GstRtp,
    Pad,
    ghost,
    insist_on_keyframes,
    link,
    make,
    parse_bin,
)
from sipmediadeploy.gateway.media.rtp_socket import RtpSocket

VIDEO_MTU = 1200
H264 = "video/x-h264,stream-format=byte-stream,alignment=au"

_DECODE = {
    "PCMA": "rtppcmadepay name=depay ! alawdec",
    "PCMU": "rtppcmudepay name=depay ! mulawdec",
    "opus": "rtpopusdepay name=depay ! opusdec ! audio/x-raw,rate=48000,channels=1",
}
_ENCODE = {
    "PCMA": "alawenc ! rtppcmapay name=pay",
    "PCMU": "mulawenc ! rtppcmupay name=pay",
    "opus": "opusenc bitrate=48000 complexity=5 ! rtpopuspay name=pay",
}

_WANDER_NS = 80_000_000
"""Estimated times of arrival wander by less. To a browser an RTP timestamp that is off means lost or late
sound, so ours count samples, up to a lost packet or to this much drift (decision 0014)."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Where an outgoing stream's RTP numbering stands, so that a rebuilt one goes on with it."""

    ssrc: int
    sequence: int
    timestamp_offset: int


@dataclass(frozen=True, slots=True)
class StreamEvents:
    """Callbacks, called from streaming threads."""

    dtmf: Callable[[str], None]
    moved: Callable[[], None]
    """The terminal's RTP comes from elsewhere than its SDP said, and ours goes there from now on."""


def new_numbering() -> Numbering:
    """A random start (RFC 3550, section 5.1)."""
    return Numbering(random.getrandbits(32), random.getrandbits(15), random.getrandbits(31))


def audio_rate(codec: str) -> int:
    """The codec's own sample rate in Hz."""
    return 48000 if codec == "opus" else 8000


def receives(direction: Direction) -> bool:
    """We receive in this direction."""
    return direction in ("sendrecv", "recvonly")


def sends(direction: Direction) -> bool:
    """We send in this direction."""
    return direction in ("sendrecv", "sendonly")


def _receive_chain(stream: AudioStream | VideoStream) -> Element:
    if isinstance(stream, VideoStream):
        return parse_bin(
            "funnel name=first ! rtph264depay name=depay request-keyframe=true ! h264parse config-interval=-1"
            f" ! capsfilter name=last caps={H264}"
        )
    bitrate = 32000 if stream.codec == "opus" else 24000
    return parse_bin(
        f"funnel name=first ! {_DECODE[stream.codec]} ! level audio-level-meta=true post-messages=false"
        f" ! opusenc name=last bitrate={bitrate} complexity=4 perfect-timestamp=true tolerance={_WANDER_NS}"
    )


def _send_chain(stream: AudioStream | VideoStream) -> Element:
    if isinstance(stream, VideoStream):
        return parse_bin(
            "valve name=first drop-mode=forward-sticky-events"
            f" ! rtph264pay name=pay mtu={VIDEO_MTU} config-interval=-1 aggregate-mode=zero-latency"
        )
    rate = audio_rate(stream.codec)
    chain = parse_bin(
        "valve name=first drop-mode=forward-sticky-events ! audioresample"
        f" ! audio/x-raw,rate={rate} ! {_ENCODE[stream.codec]}"
    )
    if stream.codec != "opus":
        pay = chain.get_by_name("pay")
        pay.set_property("min-ptime", stream.ptime_ms * Gst.MSECOND)
        pay.set_property("max-ptime", stream.ptime_ms * Gst.MSECOND)
    return chain


class SipStream:
    """A stream inside the leg's bin; ``source`` and ``sink`` are its inner ends."""

    def __init__(
        self,
        container: Element,
        rtpbin: Element,
        session: int,
        bind_address: str,
        stream: AudioStream | VideoStream,
        numbering: Numbering,
        events: StreamEvents,
    ) -> None:
        """Bind the ports and build the elements.

        Raises:
            MediaError: a port can't be bound or an element is missing.
        """
        self.stream = stream
        self._bin, self._rtpbin, self._session = container, rtpbin, session
        self._numbering = numbering
        self._dtmf = DigitDetector(events.dtmf)
        self._drains: dict[Pad, Element] = {}
        self._socket = RtpSocket(bind_address, stream.local_port, events.moved)
        self._in_valve = make("valve")
        self._receive, self._send = _receive_chain(stream), _send_chain(stream)
        for element in (*self._socket.elements, self._in_valve, self._receive, self._send):
            container.add(element)
        self._join_rtp()
        self.source = ghost(self._receive, "src", self._receive.get_by_name("last").get_static_pad("src"))
        self.sink = ghost(self._send, "sink", self._send.get_by_name("first").get_static_pad("sink"))
        self.depay_sink = self._receive.get_by_name("depay").get_static_pad("sink")
        if isinstance(stream, VideoStream):
            insist_on_keyframes(self._receive.get_by_name("depay"))
        self.redirect(stream)

    def _join_rtp(self) -> None:
        request, n, sock = self._rtpbin.request_pad_simple, self._session, self._socket
        sock.rtp_src.link(self._in_valve)
        link(self._in_valve.get_static_pad("src"), request(f"recv_rtp_sink_{n}"))
        link(sock.rtcp_src.get_static_pad("src"), request(f"recv_rtcp_sink_{n}"))
        link(request(f"send_rtcp_src_{n}"), sock.rtcp_sink.get_static_pad("sink"))
        pay = self._send.get_by_name("pay")
        pay.set_property("pt", self.stream.payload_type)
        pay.set_property("ssrc", self._numbering.ssrc)
        pay.set_property("seqnum-offset", self._numbering.sequence)
        pay.set_property("timestamp-offset", self._numbering.timestamp_offset)
        link(ghost(self._send, "src", pay.get_static_pad("src")), request(f"send_rtp_sink_{n}"))
        link(self._rtpbin.get_static_pad(f"send_rtp_src_{n}"), sock.rtp_sink.get_static_pad("sink"))

    def redirect(self, stream: AudioStream | VideoStream) -> None:
        """Take a renewed address and direction; the peer's real address is latched anew."""
        self.stream = stream
        types = {stream.payload_type}
        if isinstance(stream, AudioStream) and stream.dtmf_payload_type is not None:
            types.add(stream.dtmf_payload_type)
        self._socket.send_to(stream.remote_address, stream.remote_port, frozenset(types))
        self._in_valve.set_property("drop", not receives(stream.direction))
        self._send.get_by_name("first").set_property("drop", not sends(stream.direction))

    def caps(self, payload_type: int) -> Any:
        """RTP caps of a payload type; for one that was not negotiated too: rtpbin fails without."""
        stream = self.stream
        text = f"application/x-rtp,payload={payload_type}"
        if payload_type != stream.payload_type:
            clock = audio_rate(stream.codec) if isinstance(stream, AudioStream) else 90000
            return Gst.Caps.from_string(f"{text},media=application,encoding-name=X-OTHER,clock-rate={clock}")
        if isinstance(stream, AudioStream):
            text += f",media=audio,encoding-name={stream.codec.upper()},clock-rate={audio_rate(stream.codec)}"
        else:
            text += ",media=video,encoding-name=H264,clock-rate=90000,packetization-mode=(string)1"
            text += ",rtcp-fb-nack-pli=(boolean)true" if stream.pli else ""
            text += ",rtcp-fb-ccm-fir=(boolean)true" if stream.fir else ""
        return Gst.Caps.from_string(text)

    def pad_added(self, pad: Pad, payload_type: int) -> None:
        """A new SSRC or payload type has arrived (called in a streaming thread)."""
        if payload_type == self.stream.payload_type:
            first = self._receive.get_by_name("first")
            link(pad, ghost(self._receive, f"sink_{pad.get_name()}", first.request_pad_simple("sink_%u")))
            return
        drain = make("fakesink", sync=False, **{"async": False})
        self._drains[pad] = drain
        self._bin.add(drain)
        drain.sync_state_with_parent()
        if isinstance(self.stream, AudioStream) and payload_type == self.stream.dtmf_payload_type:
            pad.add_probe(Gst.PadProbeType.BUFFER, self._telephone_event)
        link(pad, drain.get_static_pad("sink"))

    def pad_removed(self, pad: Pad) -> None:
        """An SSRC has left (called in rtpbin's thread)."""
        drain = self._drains.pop(pad, None)
        if drain is not None:
            drain.set_state(Gst.State.NULL)
            self._bin.remove(drain)
        outer = self._receive.get_static_pad(f"sink_{pad.get_name()}")
        if outer is not None:
            inner = outer.get_target()
            self._receive.remove_pad(outer)
            self._receive.get_by_name("first").release_request_pad(inner)

    def _telephone_event(self, _pad: Pad, info: Any) -> Any:
        ok, rtp = GstRtp.RTPBuffer.map(info.get_buffer(), Gst.MapFlags.READ)
        if ok:
            timestamp, size = rtp.get_timestamp(), rtp.get_payload_len()
            rtp.unmap()
            buffer = info.get_buffer()
            self._dtmf.packet(timestamp, buffer.extract_dup(buffer.get_size() - size, size))
        return Gst.PadProbeReturn.OK

    def numbering(self) -> Numbering:
        """Where the outgoing RTP numbering stands."""
        pay = self._send.get_by_name("pay")
        sequence = (pay.get_property("seqnum") + 1) & 0xFFFF
        return Numbering(self._numbering.ssrc, sequence, self._numbering.timestamp_offset)

    def stats(self) -> tuple[StreamStats, StreamStats]:
        """What came in and what went out."""
        session = self._rtpbin.emit("get-internal-session", self._session)
        received, sent = StreamStats(), StreamStats()
        rate = audio_rate(self.stream.codec) if isinstance(self.stream, AudioStream) else 90000
        stats = session.get_property("stats")  # owns what follows: it must outlive the loop
        sources = stats.get_value("source-stats")
        for source in sources:
            get = source.get_value
            if get("internal"):
                sent = StreamStats(sent.packets + get("packets-sent"), sent.bytes + get("octets-sent"))
            elif get("packets-received"):
                received = StreamStats(
                    received.packets + get("packets-received"),
                    received.bytes + get("octets-received"),
                    received.lost + max(0, get("packets-lost")),
                    1000 * get("jitter") / rate,
                )
        return received, sent

    def close(self) -> None:
        """Give the ports back; the bin has been stopped."""
        self._socket.close()
