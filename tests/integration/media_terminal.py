"""A synthetic SIP terminal for media tests: a tone and a colour out, what comes back measured."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import gi
import numpy as np

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gio, Gst, GstVideo  # noqa: E402

from sipmediadeploy.gateway.media.api import (  # noqa: E402
    AudioCodec,
    AudioStream,
    Direction,
    SipMedia,
    VideoStream,
)

Gst.init(None)

ADDRESS = "127.0.0.1"
PAYLOAD_TYPES: dict[AudioCodec, int] = {"PCMA": 8, "PCMU": 0, "opus": 107}
VIDEO_PT, DTMF_PT = 97, 101
RED, GREEN, BLUE = (200, 30, 30), (30, 180, 30), (40, 40, 200)
Colour = tuple[int, int, int]
_CODECS: dict[AudioCodec, tuple[str, str, int]] = {
    "PCMA": ("alawenc ! rtppcmapay", "rtppcmadepay name=adepay ! alawdec", 8000),
    "PCMU": ("mulawenc ! rtppcmupay", "rtppcmudepay name=adepay ! mulawdec", 8000),
    "opus": ("opusenc ! rtpopuspay", "rtpopusdepay name=adepay ! opusdec", 48000),
}
_HEARD_RATE = 8000


def bind(port: int = 0) -> Any:
    """A UDP socket on the loopback address; raises GLib.Error when the port is taken."""
    s = Gio.Socket.new(Gio.SocketFamily.IPV4, Gio.SocketType.DATAGRAM, Gio.SocketProtocol.UDP)
    s.bind(Gio.InetSocketAddress.new_from_string(ADDRESS, port), False)
    return s


def free_ports() -> int:
    """The first of four neighbouring free UDP ports, for a gateway's audio and video."""
    while True:
        base = random.randrange(20000, 60000, 4)
        held = []
        try:
            held += [bind(port) for port in range(base, base + 4)]
        except Exception:
            continue
        else:
            return base
        finally:
            for s in held:
                s.close()


class Terminal:
    """Sends a tone (Hz) and a colour, receives, and tells what it hears and sees."""

    def __init__(
        self,
        tone: float,
        colour: Colour | None,
        codec: AudioCodec = "PCMA",
        *,
        pli: bool = True,
        fir: bool = False,
        gateway: int | None = None,
    ) -> None:
        self._codec, self._pli, self._fir, self._video = codec, pli, fir, colour is not None
        self._sockets = {name: bind() for name in ("audio", "artcp", "video", "vrtcp")}
        self.gateway = gateway or free_ports()
        self.frames_sent = self.keyframes_sent = self.frames_received = self.keyframes_received = 0
        self._pipeline = Gst.parse_launch(self._description(tone, colour or RED))
        rtpbin = self.element("rtp")
        rtpbin.connect("request-pt-map", self._caps)
        rtpbin.connect("pad-added", self._pad_added)
        for name, sock in self._sockets.items():
            for element in (self._pipeline.get_by_name(f"{name}_{way}") for way in ("in", "out")):
                if element is not None:
                    element.set_property("socket", sock)
                    element.set_property("close-socket", False)
        if self._video:
            self.element("vpay").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self._sent)
            self.element("vparse").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, self._received)

    def start(self) -> None:
        """Begin to send."""
        self._pipeline.set_state(Gst.State.PLAYING)

    def close(self) -> None:
        """Stop."""
        self._pipeline.set_state(Gst.State.NULL)
        for s in self._sockets.values():
            s.close()

    def element(self, name: str) -> Any:
        """An element of the pipeline by its name."""
        return self._pipeline.get_by_name(name)

    def port(self, name: str) -> int:
        """The terminal's own port: ``audio``, ``video`` or their RTCP."""
        return int(self._sockets[name].get_local_address().get_port())

    def media(
        self, direction: Direction = "sendrecv", *, claim: tuple[str, int] | None = None, video: bool = True
    ) -> SipMedia:
        """What SIP would have negotiated; ``claim`` is what the SDP says instead of the real address."""
        address, audio_port = claim or (ADDRESS, self.port("audio"))
        video_port = claim[1] + 2 if claim else self.port("video")
        return SipMedia(
            ADDRESS,
            AudioStream(
                self._codec,
                PAYLOAD_TYPES[self._codec],
                self.gateway,
                address,
                audio_port,
                direction,
                dtmf_payload_type=DTMF_PT,
            ),
            VideoStream(
                VIDEO_PT,
                self.gateway + 2,
                address,
                video_port,
                direction,
                pli=self._pli,
                fir=self._fir,
            )
            if self._video and video
            else None,
        )

    def mute(self, muted: bool) -> None:
        """Stop or go on sending sound and picture."""
        for name in ("avalve", "vvalve") if self._video else ("avalve",):
            self.element(name).set_property("drop", muted)

    def speak(self, loud: bool) -> None:
        """Send the tone, or silence."""
        self.element("tone").set_property("volume", 0.3 if loud else 0.0)

    def press(self, digit: str) -> None:
        """Send a digit by RFC 4733: 7 packets, the last three with the end bit."""
        event = "0123456789*#ABCD".index(digit)
        start, ssrc = random.getrandbits(32), 0x5EED
        to = Gio.InetSocketAddress.new_from_string(ADDRESS, self.gateway)
        for n in range(7):
            self._dtmf_sequence = getattr(self, "_dtmf_sequence", 100) + 1
            end = 0x80 if n >= 4 else 0
            packet = bytes([0x80, DTMF_PT | (0x80 if n == 0 else 0)]) + self._dtmf_sequence.to_bytes(2, "big")
            packet += start.to_bytes(4, "big") + ssrc.to_bytes(4, "big")
            packet += bytes([event, 10 | end]) + (160 * (n + 1)).to_bytes(2, "big")
            self._sockets["audio"].send_to(to, packet, None)

    def send_raw(self, packet: bytes) -> None:
        """Send any bytes to the gateway's audio port."""
        to = Gio.InetSocketAddress.new_from_string(ADDRESS, self.gateway)
        self._sockets["audio"].send_to(to, packet, None)

    def ask_keyframe(self) -> None:
        """Ask the gateway for a key frame by RTCP PLI."""
        event = GstVideo.video_event_new_upstream_force_key_unit(Gst.CLOCK_TIME_NONE, False, 0)
        self.element("vdec").get_static_pad("sink").push_event(event)

    def colour(self) -> Colour:
        """The mean colour of the newest picture; black when there is none."""
        sample = self.element("eye").get_property("last-sample")
        if sample is None:
            return (0, 0, 0)
        buffer = sample.get_buffer()
        pixels = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8).reshape(-1, 3)
        r, g, b = pixels.mean(axis=0)
        return int(r), int(g), int(b)

    def sees(self, colour: Colour) -> bool:
        """The newest picture has this colour."""
        return all(abs(a - b) < 40 for a, b in zip(self.colour(), colour, strict=True))

    async def hears(self, *frequencies: float) -> bool:
        """All these frequencies are in what came during the last half second."""
        samples = await self.listen()
        return all(amplitude(samples, f) > 0.05 for f in frequencies)

    async def listen(self, seconds: float = 0.4) -> Any:
        """Samples (8 kHz, -1 to 1) of what comes from now on."""
        self._pull()
        await asyncio.sleep(seconds)  # a piece of sound, not a wait for a result
        return self._pull()

    def _pull(self) -> Any:
        chunks = []
        while (sample := self.element("ear").emit("try-pull-sample", 0)) is not None:
            buffer = sample.get_buffer()
            chunks.append(buffer.extract_dup(0, buffer.get_size()))
        return np.frombuffer(b"".join(chunks), np.int16).astype(float) / 32768

    def _description(self, tone: float, colour: Colour) -> str:
        encode, decode, rate = _CODECS[self._codec]
        red, green, blue = colour
        send = f"host={ADDRESS} sync=false async=false"
        text = (
            "rtpbin name=rtp latency=40 rtp-profile=avpf"
            f" audiotestsrc name=tone is-live=true freq={tone} volume=0.3 samplesperbuffer={rate // 50}"
            f" ! audio/x-raw,rate={rate},channels=1 ! {encode} pt={PAYLOAD_TYPES[self._codec]}"
            " max-ptime=20000000 ! valve name=avalve ! rtp.send_rtp_sink_0"
            f" rtp.send_rtp_src_0 ! udpsink name=audio_out port={self.gateway} {send}"
            f" rtp.send_rtcp_src_0 ! udpsink name=artcp_out port={self.gateway + 1} {send}"
            " udpsrc name=audio_in ! rtp.recv_rtp_sink_0 udpsrc name=artcp_in ! rtp.recv_rtcp_sink_0"
            f" {decode} ! audioconvert ! audioresample"
            f" ! audio/x-raw,format=S16LE,rate={_HEARD_RATE},channels=1"
            " ! appsink name=ear max-buffers=500 drop=true sync=false async=false"
        )
        if not self._video:
            return text
        return (
            f"{text} videotestsrc is-live=true pattern=solid-color"
            f" foreground-color={0xFF000000 | red << 16 | green << 8 | blue}"
            " ! video/x-raw,format=I420,width=320,height=240,framerate=15/1"
            " ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=200 key-int-max=100000 threads=1"
            " ! video/x-h264,profile=constrained-baseline"
            " ! valve name=vvalve"  # before the payloader: what is not sent has no number
            f" ! rtph264pay name=vpay pt={VIDEO_PT} mtu=1200 aggregate-mode=zero-latency"
            " ! rtp.send_rtp_sink_1"
            f" rtp.send_rtp_src_1 ! udpsink name=video_out port={self.gateway + 2} {send}"
            f" rtp.send_rtcp_src_1 ! udpsink name=vrtcp_out port={self.gateway + 3} {send}"
            " udpsrc name=video_in ! rtp.recv_rtp_sink_1 udpsrc name=vrtcp_in ! rtp.recv_rtcp_sink_1"
            " rtph264depay name=vdepay ! h264parse name=vparse ! avdec_h264 name=vdec max-threads=1"
            " ! videoconvert ! video/x-raw,format=RGB"
            " ! appsink name=eye max-buffers=1 drop=true sync=false async=false"
        )

    def _caps(self, _rtpbin: Any, session: int, payload_type: int) -> Any:
        text = f"application/x-rtp,payload={payload_type}"
        if session == 0:
            name, rate = self._codec.upper(), _CODECS[self._codec][2]
            return Gst.Caps.from_string(f"{text},media=audio,encoding-name={name},clock-rate={rate}")
        feedback = ",rtcp-fb-nack-pli=(boolean)true" if self._pli else ""
        feedback += ",rtcp-fb-ccm-fir=(boolean)true" if self._fir else ""
        return Gst.Caps.from_string(f"{text},media=video,encoding-name=H264,clock-rate=90000{feedback}")

    def _pad_added(self, _rtpbin: Any, pad: Any) -> None:
        if m := re.match(r"recv_rtp_src_(\d)_", pad.get_name()):
            sink = self.element("vdepay" if m[1] == "1" else "adepay").get_static_pad("sink")
            if sink.is_linked():
                sink.get_peer().unlink(sink)
            pad.link(sink)

    def _sent(self, _pad: Any, info: Any) -> Any:
        self.frames_sent += 1
        self.keyframes_sent += not info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT)
        return Gst.PadProbeReturn.OK

    def _received(self, _pad: Any, info: Any) -> Any:
        self.frames_received += 1
        self.keyframes_received += not info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT)
        return Gst.PadProbeReturn.OK


def amplitude(samples: Any, frequency: float) -> float:
    """Amplitude (0 to 1) of a frequency in samples of 8 kHz."""
    if len(samples) < _HEARD_RATE // 5:
        return 0.0
    turns = np.exp(-2j * np.pi * frequency * np.arange(len(samples)) / _HEARD_RATE)
    return float(2 * abs((samples * turns).mean()))


def beside(samples: Any, *frequencies: float) -> float:
    """Energy in samples of 8 kHz that is not of these tones, by theirs; gaps and clicks are energy."""
    turns = 2 * np.pi * np.outer(np.arange(len(samples)) / _HEARD_RATE, frequencies)
    tones = np.hstack((np.cos(turns), np.sin(turns)))
    heard = tones @ np.linalg.lstsq(tones, samples, rcond=None)[0]
    return float(((samples - heard) ** 2).sum() / (heard**2).sum())


def longest_silence(samples: Any) -> float:
    """The longest run of zeros in samples of 8 kHz, in seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate(([1], np.abs(samples) > 1e-4, [1])).astype(int)))
    return float(max(np.diff(edges)[::2], default=0) / _HEARD_RATE)
