"""The seam between a call and its media worker process: values and the Protocol, no GStreamer in here.

A worker carries one call. On the SIP side it has up to one audio and one video RTP stream each way; on the
conference side any number of WebRTC peer connections:

* *uplink*: what the terminal sends. It goes out of the peer connection that was created with ``send=True``.
* *downlink*: what the terminal gets. Every audio stream received on any peer connection is mixed into it;
  the picture is the most recently received video stream, or the one that :meth:`MediaWorker.show_video`
  names, held back until an IDR after :meth:`MediaWorker.video_switched`. H.264 is passed through, VP8 is
  transcoded.
  While nothing comes the terminal sees a drawn picture, if :meth:`MediaWorker.describe` was called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

AudioCodec = Literal["PCMA", "PCMU", "opus"]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""From our own side of the SDP (RFC 8866, section 6.7)."""


@dataclass(frozen=True, slots=True)
class AudioStream:
    """The negotiated SIP audio stream."""

    codec: AudioCodec
    payload_type: int
    local_port: int
    remote_address: str
    remote_port: int
    direction: Direction = "sendrecv"
    ptime_ms: int = 20
    dtmf_payload_type: int | None = None


@dataclass(frozen=True, slots=True)
class VideoStream:
    """The negotiated SIP video stream: H.264, packetization-mode 1 (RFC 6184)."""

    payload_type: int
    local_port: int
    remote_address: str
    remote_port: int
    direction: Direction = "sendrecv"
    profile_level_id: str = "42e01f"
    pli: bool = False
    """The terminal takes and sends RTCP PLI (``a=rtcp-fb: nack pli``, RFC 4585)."""
    fir: bool = False
    """The terminal takes and sends RTCP FIR (``a=rtcp-fb: ccm fir``, RFC 5104)."""
    kbps: int = 1500


@dataclass(frozen=True, slots=True)
class SipMedia:
    """The media of one SIP call as negotiated. RTCP is on port + 1 (RFC 3550) for each stream."""

    bind_address: str
    audio: AudioStream | None
    video: VideoStream | None


@dataclass(frozen=True, slots=True)
class IceServers:
    """ICE configuration of a peer connection."""

    turn_uris: tuple[str, ...] = ()
    """``turn://USER:PASSWORD@HOST:PORT?transport=udp`` (or ``tcp``), USER and PASSWORD percent-encoded."""
    relay_only: bool = False


@dataclass(frozen=True, slots=True)
class StreamStats:
    """Counters of one direction of one medium."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    jitter_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class MediaStats:
    """What flows in a call, from the SIP side's point of view."""

    audio_in: StreamStats = StreamStats()
    audio_out: StreamStats = StreamStats()
    video_in: StreamStats = StreamStats()
    video_out: StreamStats = StreamStats()


class MediaError(Exception):
    """The worker could not do what was asked; the call can't go on."""


@dataclass(frozen=True, slots=True)
class WorkerEvents:
    """Callbacks on the server's event loop. Each is called at most as often as its comment says."""

    exited: Callable[[str], None]
    """Once: the process is gone; the text says how."""
    keyframe_wanted: Callable[[], None]
    """The conference wants a key frame from a terminal that does neither PLI nor FIR: send it a SIP INFO."""
    rtp_timeout: Callable[[], None]
    """No RTP from the terminal for the given time (not while every stream is on hold)."""
    connection: Callable[[str, str], None]
    """(peer connection id, state): ``connected``, ``disconnected``, ``failed``, ``closed``."""
    dtmf: Callable[[str], None]
    """One digit by RFC 4733."""
    channel: Callable[[str, str | None], None]
    """(peer connection id, text): a message over its data channel; None, once: the channel is open."""


class MediaWorker(Protocol):
    """One pre-started media worker process, as its call and the conference driver see it."""

    @property
    def pid(self) -> int: ...

    async def start_sip(self, media: SipMedia, rtp_timeout_s: float) -> None:
        """Start, or after a re-INVITE change, the SIP side. Latches the peer's address once each time."""
        ...

    async def create_peer(self, peer: str, ice: IceServers, *, send: bool) -> None:
        """Create the peer connection ``peer``; with ``send`` it carries the uplink."""
        ...

    async def open_channel(self, peer: str, label: str, protocol: str) -> None:
        """Have a data channel (RFC 8831) in the peer connection, from its next offer or answer on.

        An answer has one only when the remote offer has the section for it.
        """
        ...

    async def send_channel(self, peer: str, text: str) -> None:
        """Send a message over the data channel; one that is not open loses it."""
        ...

    async def offer(self, peer: str, *, receive: bool = False) -> str:
        """A complete SDP offer (candidates gathered) for the uplink: Opus and, with video, H.264.

        Without ``receive`` it is ``sendonly``.
        """
        ...

    async def set_answer(self, peer: str, sdp: str) -> None:
        """The remote answer to :meth:`offer`."""
        ...

    async def answer(self, peer: str, sdp: str) -> str:
        """A complete SDP answer to a (first or renewed) remote offer."""
        ...

    async def add_candidate(self, peer: str, mline: int, candidate: str) -> None:
        """A trickled remote candidate (RFC 8838)."""
        ...

    async def send_uplink(self, *, audio: bool, video: bool) -> None:
        """What of the uplink goes out from now on; both do at first. A picture begins again with an IDR."""
        ...

    async def video_switched(self) -> None:
        """The picture's source has changed: hold the picture back until an IDR, and ask for one."""
        ...

    async def show_video(self, ssrc: int | None) -> None:
        """Show the received video stream ``ssrc`` as soon as it is there; None: the newest one."""
        ...

    async def video_arrives(self) -> bool:
        """The video stream that is to be shown has brought something in the last second or two."""
        ...

    async def describe(self, title: str, lines: Sequence[str]) -> None:
        """What is written on the picture that the terminal sees while nobody sends video."""
        ...

    async def say(self, file: str) -> None:
        """Play a sound file (WAV) to the terminal, in place of one that is still being played."""
        ...

    async def send_keyframe(self) -> None:
        """The terminal asked for a key frame by SIP INFO: ask the conference for one."""
        ...

    async def close_peer(self, peer: str) -> None:
        """Close one peer connection."""
        ...

    async def stats(self) -> MediaStats: ...

    async def close(self) -> None:
        """End the process. Safe to call twice; never raises."""
        ...
