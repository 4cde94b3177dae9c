"""The test terminal's media: one GStreamer pipeline with rtpbin, sound and picture both ways."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gi

from sipmediadeploy.gateway.media.api import AudioStream, SipMedia, VideoStream
from sipmediadeploy.gateway.testcall.elements import Clip, decoder, encoder, load, raw_caps
from sipmediadeploy.gateway.testcall.options import Options
from sipmediadeploy.gateway.testcall.receive import HEARD_RATE, Ear, Eye
from sipmediadeploy.gateway.testcall.report import Flow, Second
from sipmediadeploy.gateway.testcall.source import (
    CHUNKS_PER_SECOND,
    Feeder,
    audio_chunks,
    clip_frames,
    live_frames,
)

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gio, GLib, Gst, GstVideo  # noqa: E402

_AUDIO, _VIDEO = 0, 1
_LATENCY_MS = 60
_AUDIO_CHAINS = {
    "PCMA": ("alawenc ! rtppcmapay", "rtppcmadepay ! alawdec", 8000, "PCMA"),
    "PCMU": ("mulawenc ! rtppcmupay", "rtppcmudepay ! mulawdec", 8000, "PCMU"),
    "opus": (
        "opusenc bitrate=32000 ! rtpopuspay",
        "rtpopusdepay ! opusdec use-inband-fec=true",
        48000,
        "OPUS",
    ),
}


class MediaFailed(Exception):
    """GStreamer reports an error; the text names the element."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Bound sockets of one RTP stream: RTP on an even port, RTCP on the next (RFC 3550, section 11)."""

    rtp: Gio.Socket
    rtcp: Gio.Socket
    port: int

    @classmethod
    def bind(cls, address: str) -> Ports:
        """Two neighbouring free ports. Raises OSError when the address is not one of this machine's."""
        for _ in range(200):
            with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
                probe.bind((address, 0))
                port = probe.getsockname()[1] // 2 * 2
            try:
                return cls(_bound(address, port), _bound(address, port + 1), port)
            except GLib.Error:
                continue
        raise OSError(f"no two neighbouring UDP ports are free on {address}")


def _bound(address: str, port: int) -> Gio.Socket:
    opened = Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM, Gio.SocketProtocol.UDP)
    opened.bind(Gio.InetSocketAddress.new_from_string(address, port), False)
    return opened


class Media:
    """One call's media. Not thread-safe: use it from one thread; GStreamer has its own."""

    def __init__(self, options: Options, clip: Clip | None, audio: Ports, video: Ports | None) -> None:
        """Prepare all that does not depend on the answer, so that media flows at once after it."""
        self._options, self._clip = options, clip
        self._ports = {_AUDIO: audio, _VIDEO: video}
        self._chunks = audio_chunks(options, clip)
        self._frames = clip_frames(clip) if clip else live_frames(options)
        self._feeders: list[Feeder] = []
        self._pipeline: Any = None
        self._depayloaders: dict[int, Any] = {}
        self._info_requests = 0
        self.ear: Ear | None = None
        self.eye: Eye | None = None
        load(options)

    def start(self, media: SipMedia) -> None:
        """Send and receive as negotiated. Raises MediaFailed."""
        parts = [f"rtpbin name=rtp latency={_LATENCY_MS} rtp-profile=avpf do-lost=true"]
        if media.audio is not None:
            parts.append(self._audio_text(media.audio))
        if media.video is not None:
            parts.append(self._video_text(media.video))
        try:
            self._pipeline = Gst.parse_launch("\n".join(parts))
        except GLib.Error as error:
            raise MediaFailed(f"no pipeline: {error.message}") from error
        self._connect(media)
        self.retarget(media)
        self._pipeline.get_by_name("rtp").connect("pad-added", self._on_pad)
        if self._pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
            self.check()
            raise MediaFailed("the pipeline does not start")
        for feeder in self._feeders:
            feeder.start()

    def retarget(self, media: SipMedia) -> None:
        """Send to where a re-INVITE says."""
        for kind, stream in (("a", media.audio), ("v", media.video)):
            for channel, offset in (("rtp", 0), ("rtcp", 1)):
                sink = self._pipeline.get_by_name(f"{kind}{channel}out")
                if sink is not None and stream is not None:
                    sink.set_property("host", stream.remote_address)
                    sink.set_property("port", stream.remote_port + offset)

    def force_keyframe(self) -> None:
        """The other side asked for a key frame by INFO."""
        self._info_requests += 1
        payloader = self._pipeline.get_by_name("vpay") if self._pipeline else None
        if payloader is not None:
            event = GstVideo.video_event_new_upstream_force_key_unit(Gst.CLOCK_TIME_NONE, True, 0)
            payloader.get_static_pad("sink").push_event(event)

    def second(self, t: int) -> Second:
        """The report of one second. Raises MediaFailed when the pipeline has an error."""
        self.check()
        audio_in, audio_out, _ = self._flows(_AUDIO)
        video_in, video_out, asked = self._flows(_VIDEO)
        values: dict[str, Any] = {}
        if self.ear is not None:
            values["heard"] = self.ear.second()
        if self.eye is not None:
            values["seen"] = self.eye.second()
        return Second(
            t,
            audio_out,
            audio_in,
            video_out,
            video_in,
            keyframe_requests=asked + self._info_requests,
            **values,
        )

    def check(self) -> None:
        """Raise MediaFailed when the pipeline has reported an error."""
        message = self._pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        if message is not None:
            error, _ = message.parse_error()
            raise MediaFailed(f"{message.src.get_name()}: {error.message}")

    def save_picture(self, path: Path) -> bool:
        """Write the last decoded picture as PNG; False when there is none."""
        return self.eye is not None and self.eye.save(path)

    def stop(self) -> None:
        for feeder in self._feeders:
            feeder.stop()
        self._feeders.clear()
        if self._pipeline is not None:
            self._pipeline.set_state(Gst.State.NULL)

    def _audio_text(self, stream: AudioStream) -> str:
        encode, decode, rate, name = _AUDIO_CHAINS[stream.codec]
        caps = (
            f"application/x-rtp,media=audio,clock-rate={rate},encoding-name={name},"
            f"payload={stream.payload_type}"
        )
        return (
            "appsrc name=afeed format=time is-live=true max-bytes=200000 leaky-type=downstream "
            "caps=audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved "
            f"! audioconvert ! audioresample ! audio/x-raw,rate={rate},channels=1 ! {encode} name=apay "
            f"pt={stream.payload_type} min-ptime=20000000 max-ptime=20000000 "
            f"! rtp.send_rtp_sink_{_AUDIO} {_network(_AUDIO, 'a', caps)} "
            f"{decode.replace(' !', ' name=adepay !', 1)} ! audioconvert ! audioresample "
            f"! audio/x-raw,format=S16LE,rate={HEARD_RATE},channels=1 "
            "! appsink name=ear sync=false async=false emit-signals=true max-buffers=50 drop=true"
        )

    def _video_text(self, stream: VideoStream) -> str:
        caps = (
            "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,"
            f"payload={stream.payload_type},packetization-mode=(string)1"
            + (",rtcp-fb-nack-pli=true" if stream.pli else "")
            + (",rtcp-fb-ccm-fir=true" if stream.fir else "")
        )
        if self._clip:
            feed = "caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse"
        else:
            # A terminal sends a key frame when asked to: few of its own, so that asking is put to the test.
            feed = f"caps={raw_caps(self._options)} ! {encoder(self._options.kbps, self._options.fps * 10)}"
        watch = (
            f"{decoder()} ! videoconvert ! video/x-raw,format=I420 "
            "! appsink name=eye sync=false async=false emit-signals=true max-buffers=5 drop=true"
            if self._options.decode
            else "fakesink sync=false async=false"
        )
        return (
            f"appsrc name=vfeed format=time is-live=true max-bytes=8000000 leaky-type=downstream {feed} "
            f"! rtph264pay name=vpay pt={stream.payload_type} mtu=1200 config-interval=-1 "
            "aggregate-mode=zero-latency "
            f"! rtp.send_rtp_sink_{_VIDEO} {_network(_VIDEO, 'v', caps)} "
            f"rtph264depay name=vdepay request-keyframe=true wait-for-keyframe=true ! h264parse ! {watch}"
        )

    def _connect(self, media: SipMedia) -> None:
        """Give the sockets, the feeders and the watchers their elements."""
        for session, kind, stream in ((_AUDIO, "a", media.audio), (_VIDEO, "v", media.video)):
            ports = self._ports[session]
            if stream is None or ports is None:
                continue
            for channel, opened in (("rtp", ports.rtp), ("rtcp", ports.rtcp)):
                for end in ("in", "out"):
                    element = self._pipeline.get_by_name(f"{kind}{channel}{end}")
                    element.set_property("socket", opened)
                    element.set_property("close-socket", False)
            # Called at its published address from inside the stack, a gateway sends from its own address
            # until it has heard us, then from the published one: rtpsession would drop that as a collision.
            rtp = self._pipeline.get_by_name("rtp").emit("get-internal-session", session)
            rtp.set_property("favor-new", True)
            self._depayloaders[session] = self._pipeline.get_by_name(f"{kind}depay")
        if media.audio is not None:
            source = self._pipeline.get_by_name("afeed")
            self._feeders.append(Feeder(self._pipeline, source, CHUNKS_PER_SECOND, self._chunks))
            self.ear = Ear(self._pipeline.get_by_name("ear"))
        if media.video is not None:
            source = self._pipeline.get_by_name("vfeed")
            self._feeders.append(Feeder(self._pipeline, source, self._options.fps, self._frames))
            if self._options.decode:
                self.eye = Eye(self._pipeline.get_by_name("eye"))

    def _on_pad(self, _rtpbin: Any, pad: Any) -> None:
        """A new SSRC: it takes the place of the one before, which may go on (a call that was here before)."""
        name = pad.get_name()
        if not name.startswith("recv_rtp_src_"):
            return
        depayloader = self._depayloaders.get(int(name.split("_")[3]))
        if depayloader is None:
            return
        sink = depayloader.get_static_pad("sink")
        if (before := sink.get_peer()) is not None:
            # A pad that leads nowhere is an error to rtpbin, which ends all of the pipeline: nothing may come
            # between this and the end of its link.
            kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST
            before.add_probe(kinds, lambda _pad, _info: Gst.PadProbeReturn.DROP)
            before.unlink(sink)
        pad.link(sink)

    def _flows(self, session: int) -> tuple[Flow, Flow, int]:
        """What came in, what went out, key frame requests received."""
        rtp = self._pipeline.get_by_name("rtp").emit("get-internal-session", session)
        if rtp is None:
            return Flow(), Flow(), 0
        incoming, outgoing, asked = Flow(), Flow(), 0
        stats = rtp.get_property("stats")  # The structures in the array live as long as this one.
        for source in stats.get_value("source-stats"):
            number = _reader(source)
            if source.get_value("internal"):
                outgoing = _sum(outgoing, number("packets-sent"), number("octets-sent"), 0, 0.0)
                asked += number("recv-pli-count") + number("recv-fir-count")
            else:
                jitter = number("jitter") * 1000 / max(1, number("clock-rate"))
                lost = number("packets-lost")
                incoming = _sum(incoming, number("packets-received"), number("octets-received"), lost, jitter)
                outgoing = _sum(outgoing, 0, 0, number("rb-packetslost"), 0.0)
        return incoming, outgoing, asked


def _reader(source: Any) -> Callable[[str], int]:
    """Numbers of a source's statistics; those that are not there, or not known yet (negative), are 0."""
    return lambda name: max(0, source.get_value(name) or 0)


def _sum(flow: Flow, packets: int, octets: int, lost: int, jitter_ms: float) -> Flow:
    """Counters add up over SSRCs; the jitter is the newest one's."""
    return Flow(
        flow.packets + packets, flow.bytes + octets, flow.lost + lost, round(jitter_ms or flow.jitter_ms, 1)
    )


def _network(session: int, kind: str, caps: str) -> str:
    """UDP in and out of one RTP session, symmetric."""
    return (
        f"rtp.send_rtp_src_{session} ! udpsink name={kind}rtpout sync=false async=false "
        f"rtp.send_rtcp_src_{session} ! udpsink name={kind}rtcpout sync=false async=false "
        f'udpsrc name={kind}rtpin caps="{caps}" buffer-size=2000000 ! rtp.recv_rtp_sink_{session} '
        f"udpsrc name={kind}rtcpin ! rtp.recv_rtcp_sink_{session}"
    )
