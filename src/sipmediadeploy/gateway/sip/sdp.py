"""SDP offer and answer for one SIP call (RFC 3264, RFC 8866, RFC 6184): pure, text in, values out."""

from __future__ import annotations

from dataclasses import dataclass

from sipmediadeploy.gateway.media.api import AudioCodec, AudioStream, Direction, SipMedia, VideoStream
from sipmediadeploy.gateway.sip import h264
from sipmediadeploy.gateway.sip.sdp_text import Description, Media, Payload, SdpError, parse

__all__ = ["LocalMedia", "SdpError", "answer_offer", "make_offer", "read_answer"]

_PLAIN_RTP = ("RTP/AVP", "RTP/AVPF")
_MIRROR: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
_CODECS: dict[tuple[str, int], AudioCodec] = {
    ("PCMA", 8000): "PCMA",
    ("PCMU", 8000): "PCMU",
    ("OPUS", 48000): "opus",
}
_OWN_AUDIO: dict[AudioCodec, tuple[int, str]] = {
    "opus": (111, "opus/48000/2"),
    "PCMA": (8, "PCMA/8000"),
    "PCMU": (0, "PCMU/8000"),
}
_OWN_DTMF, _OWN_H264 = 101, 96


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What this side can do, and where."""

    address: str
    """What ``c=`` says (IPv4)."""
    bind_address: str
    """What the media worker binds to."""
    audio_port: int
    video_port: int | None
    """None: no video."""
    audio: tuple[AudioCodec, ...] = ("opus", "PCMA", "PCMU")
    video_kbps: int = 1500
    session_id: int = 1
    version: int = 1
    """Of ``o=``: one more with each changed description (RFC 3264, section 8)."""


def answer_offer(offer: str, local: LocalMedia) -> tuple[str, SipMedia]:
    """The answer to a terminal's offer, and what was agreed.

    The first audio and the first main picture that can be used are; every other m-line is refused (port 0).

    Raises:
        SdpError: not SDP (400), or no medium is left (488).
    """
    description = parse(offer)
    lines: list[str] = []
    audio: AudioStream | None = None
    video: VideoStream | None = None
    for media in description.media:
        if audio is None and (audio := _agree_audio(media, local)) is not None:
            lines += _audio_lines(media, audio)
        elif video is None and (video := _agree_video(media, description, local)) is not None:
            lines += _video_lines(media, video, local)
        else:
            lines.append(_refused(media))
    if audio is None and video is None:
        raise SdpError("SDP: no medium that this gateway can use: " + (_kinds(description) or "no m-line"))
    return _text(local, lines), SipMedia(local.bind_address, audio, video)


def make_offer(local: LocalMedia, previous: str | None = None) -> str:
    """An offer with all that ``local`` can do.

    ``previous`` is our last description in this session: its m-lines keep their places (RFC 3264, section 8).
    """
    before = parse(previous).media if previous else ()
    slots = {kind: _slot(before, kind) for kind in ("audio", "video")}
    lines: list[str] = []
    for media in before:
        ours = media is slots.get(media.kind)
        lines += _offer_lines(media.kind, local, media) if ours else [_refused(media)]
    for kind, slot in slots.items():
        lines += _offer_lines(kind, local, None) if slot is None else []
    return _text(local, lines)


def read_answer(answer: str, local: LocalMedia, offer: str | None = None) -> SipMedia:
    """What was agreed, from the answer to ``offer`` (default: ``make_offer(local)``).

    Raises:
        SdpError: not an answer to that offer (400), or no medium is left (488).
    """
    description = parse(answer)
    offered = parse(offer if offer is not None else make_offer(local)).media
    if len(description.media) != len(offered):
        raise SdpError(f"SDP: {len(description.media)} m-lines answer {len(offered)}", 400)
    audio: AudioStream | None = None
    video: VideoStream | None = None
    for media, ours in zip(description.media, offered, strict=True):
        if media.kind != ours.kind:
            raise SdpError(f"SDP: m={media.kind[:20]} answers m={ours.kind}", 400)
        if ours.port and audio is None:
            audio = _agree_audio(media, local)
        if ours.port and video is None:
            video = _agree_video(media, description, local)
    if audio is None and video is None:
        raise SdpError("SDP: no medium is left in the answer: " + (_kinds(description) or "no m-line"))
    return SipMedia(local.bind_address, audio, video)


def _slot(before: tuple[Media, ...], kind: str) -> Media | None:
    """The m-line that this kind of medium has had, or may take up again."""
    places = [m for m in before if m.kind == kind and m.protocol in _PLAIN_RTP]
    return next((m for m in places if m.port), places[0] if places else None)


def _usable(media: Media, kind: str) -> bool:
    return (
        media.kind == kind and media.port > 0 and media.protocol in _PLAIN_RTP and media.address is not None
    )


def _our_direction(media: Media) -> Direction:
    if not media.on_hold:
        return _MIRROR[media.direction]
    return "recvonly" if media.direction in ("sendrecv", "sendonly") else "inactive"


def _agree_audio(media: Media, local: LocalMedia) -> AudioStream | None:
    if not _usable(media, "audio"):
        return None
    for payload in media.payloads:
        codec = _CODECS.get((payload.encoding, payload.clock_rate))
        if codec is not None and codec in local.audio:
            return AudioStream(
                codec=codec,
                payload_type=payload.number,
                local_port=local.audio_port,
                remote_address=media.address or "",
                remote_port=media.port,
                direction=_our_direction(media),
                ptime_ms=_ptime(media),
                dtmf_payload_type=_dtmf(media, payload.clock_rate),
            )
    return None


def _ptime(media: Media) -> int:
    wanted = min(media.ptime or 20, media.maxptime or 60)
    return max((ms for ms in (10, 20, 40, 60) if ms <= wanted), default=10)


def _dtmf(media: Media, clock_rate: int) -> int | None:
    events = [p for p in media.payloads if p.encoding == "TELEPHONE-EVENT"]
    events.sort(key=lambda p: p.clock_rate != clock_rate)
    return events[0].number if events else None


def _agree_video(media: Media, description: Description, local: LocalMedia) -> VideoStream | None:
    if local.video_port is None or not _usable(media, "video") or media.content == "slides":
        return None
    chosen = _choose_h264(media.payloads)
    if chosen is None:
        return None
    payload, level = chosen
    return VideoStream(
        payload_type=payload.number,
        local_port=local.video_port,
        remote_address=media.address or "",
        remote_port=media.port,
        direction=_our_direction(media),
        profile_level_id=str(level.lowered_to(h264.OWN_LEVEL)),
        pli=_feedback(media, payload, "nack pli"),
        fir=_feedback(media, payload, "ccm fir"),
        kbps=_kbps(media, description, local),
    )


def _choose_h264(payloads: tuple[Payload, ...]) -> tuple[Payload, h264.ProfileLevel] | None:
    """Constrained baseline before baseline, packetization-mode 1 only, else the other side's order."""
    usable = []
    for payload in payloads:
        if payload.encoding != "H264" or payload.clock_rate != 90000:
            continue
        level = h264.parse_profile_level(payload.parameters.get("profile-level-id", h264.DEFAULT))
        if payload.parameters.get("packetization-mode") == "1" and level and level.profile != "other":
            usable.append((payload, level))
    usable.sort(key=lambda item: item[1].profile != "constrained-baseline")
    return usable[0] if usable else None


def _feedback(media: Media, payload: Payload, what: str) -> bool:
    return (str(payload.number), what) in media.feedback or ("*", what) in media.feedback


def _kbps(media: Media, description: Description, local: LocalMedia) -> int:
    limits = [local.video_kbps]
    if "TIAS" in media.bandwidth:
        limits.append(media.bandwidth["TIAS"] // 1000)
    elif "AS" in media.bandwidth:
        limits.append(media.bandwidth["AS"])
    else:
        whole = description.bandwidth
        limits += [whole["TIAS"] // 1000 - 64] if "TIAS" in whole else []
        limits += [whole[name] - 64 for name in ("AS", "CT") if name in whole and "TIAS" not in whole]
    return max(min(limits), 64)


def _audio_lines(media: Media, audio: AudioStream) -> list[str]:
    pt, dtmf = audio.payload_type, audio.dtmf_payload_type
    formats = [pt] if dtmf is None else [pt, dtmf]
    lines = [f"m=audio {audio.local_port} {media.protocol} {' '.join(map(str, formats))}"]
    lines.append(f"a=rtpmap:{pt} {_OWN_AUDIO[audio.codec][1]}")
    lines += [f"a=fmtp:{pt} useinbandfec=1"] if audio.codec == "opus" else []
    if dtmf is not None:
        rate = next(p.clock_rate for p in media.payloads if p.number == dtmf)
        lines += [f"a=rtpmap:{dtmf} telephone-event/{rate}", f"a=fmtp:{dtmf} 0-15"]
    return [*lines, f"a=ptime:{audio.ptime_ms}", f"a={audio.direction}"]


def _video_lines(media: Media, video: VideoStream, local: LocalMedia) -> list[str]:
    pt = video.payload_type
    payload = next(p for p in media.payloads if p.number == pt)
    offered = h264.parse_profile_level(payload.parameters.get("profile-level-id", h264.DEFAULT))
    asymmetric = payload.parameters.get("level-asymmetry-allowed") == "1" and offered is not None
    level = str(offered.with_level(h264.OWN_LEVEL)) if asymmetric and offered else video.profile_level_id
    fmtp = f"profile-level-id={level};packetization-mode=1" + (
        ";level-asymmetry-allowed=1" if asymmetric else ""
    )
    return [
        f"m=video {video.local_port} {media.protocol} {pt}",
        f"b=AS:{local.video_kbps}",
        f"b=TIAS:{local.video_kbps * 1000}",
        f"a=rtpmap:{pt} H264/90000",
        f"a=fmtp:{pt} {fmtp}",
        *([f"a=rtcp-fb:{pt} nack pli"] if video.pli else []),
        *([f"a=rtcp-fb:{pt} ccm fir"] if video.fir else []),
        f"a={video.direction}",
    ]


def _offer_lines(kind: str, local: LocalMedia, previous: Media | None) -> list[str]:
    protocol = previous.protocol if previous else "RTP/AVP"
    if kind == "audio":
        return _audio_offer(local, protocol, previous.payloads if previous else ())
    if local.video_port is None:
        return [_refused(previous)] if previous else []
    pt = next((p.number for p in (previous.payloads if previous else ()) if p.encoding == "H264"), _OWN_H264)
    return [
        f"m=video {local.video_port} {protocol} {pt}",
        f"b=AS:{local.video_kbps}",
        f"b=TIAS:{local.video_kbps * 1000}",
        f"a=rtpmap:{pt} H264/90000",
        f"a=fmtp:{pt} profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
        f"a=rtcp-fb:{pt} nack pli",
        f"a=rtcp-fb:{pt} ccm fir",
        "a=sendrecv",
    ]


def _audio_offer(local: LocalMedia, protocol: str, before: tuple[Payload, ...]) -> list[str]:
    """Payload types keep their meaning for the whole session (RFC 3264, section 8.3.2)."""
    known = {(p.encoding, p.clock_rate): p.number for p in before}
    taken = set(known.values())

    def payload_type(encoding: str, rate: int, own: int) -> int:
        pt = known.get((encoding.upper(), rate))
        if pt is None:
            pt = own if own not in taken else next(n for n in range(96, 128) if n not in taken)
            taken.add(pt)
        return pt

    formats: list[int] = []
    lines: list[str] = []
    for codec in local.audio:
        own, name = _OWN_AUDIO[codec]
        pt = payload_type(codec, int(name.split("/")[1]), own)
        formats.append(pt)
        lines.append(f"a=rtpmap:{pt} {name}")
        lines += [f"a=fmtp:{pt} useinbandfec=1"] if codec == "opus" else []
    dtmf = payload_type("TELEPHONE-EVENT", 8000, _OWN_DTMF)
    formats.append(dtmf)
    lines += [f"a=rtpmap:{dtmf} telephone-event/8000", f"a=fmtp:{dtmf} 0-15"]
    return [
        f"m=audio {local.audio_port} {protocol} {' '.join(map(str, formats))}",
        *lines,
        "a=ptime:20",
        "a=sendrecv",
    ]


def _refused(media: Media) -> str:
    formats = " ".join(media.formats) or "0"
    return f"m={media.kind} 0 {media.protocol} {formats}"


def _kinds(description: Description) -> str:
    return ", ".join(f"{m.kind[:20]} {m.protocol[:20]} port {m.port}" for m in description.media[:8])


def _text(local: LocalMedia, lines: list[str]) -> str:
    head = [
        "v=0",
        f"o=- {local.session_id} {local.version} IN IP4 {local.address}",
        "s=-",
        f"c=IN IP4 {local.address}",
        "t=0 0",
    ]
    return "\r\n".join([*head, *lines, ""])
