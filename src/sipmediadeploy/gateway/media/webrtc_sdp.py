"""Edits of WebRTC SDP (RFC 8829) between webrtcbin and the conference platform (pure).

webrtcbin of GStreamer 1.22 compares ``profile-level-id`` literally and answers ``recvonly`` when it differs,
lists no candidates in its descriptions, and marks bundled m-lines with port 0, which some platforms read as
"rejected".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
"""Client-to-mixer audio level, RFC 6464."""

_PROFILE = re.compile(r";?\s*(?:profile-level-id|level-asymmetry-allowed)=[^;\s]*", re.IGNORECASE)
_UNUSABLE_CANDIDATE = re.compile(r" fe80:|\.local ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Section:
    """One media section: its m-line and the lines under it."""

    lines: tuple[str, ...]

    @property
    def kind(self) -> str:
        """``audio``, ``video`` or ``application``."""
        return self.lines[0][2:].split(" ", 1)[0]

    @property
    def rejected(self) -> bool:
        """Port 0 without ``bundle-only`` (RFC 8843, section 6)."""
        return self.lines[0].split(" ")[1] == "0" and "a=bundle-only" not in self.lines

    @property
    def receives(self) -> bool:
        """The side that wrote it is ready to receive."""
        return not self.rejected and "a=sendonly" not in self.lines and "a=inactive" not in self.lines

    @property
    def formats(self) -> tuple[int, ...]:
        """Payload types in order of preference."""
        return tuple(int(f) for f in self.lines[0].split(" ")[3:] if f.isdigit())

    def attribute(self, name: str, payload_type: int) -> str | None:
        """The value of ``a=NAME:PT ...``."""
        start = f"a={name}:{payload_type} "
        return next((x[len(start) :] for x in self.lines if x.startswith(start)), None)

    def ssrcs(self) -> frozenset[int]:
        """The SSRCs that the section announces (RFC 5576)."""
        return frozenset(int(m[1]) for x in self.lines if (m := re.match(r"a=ssrc:(\d+)", x)))

    def extension(self, uri: str) -> int | None:
        """The id of a header extension (RFC 8285)."""
        for x in self.lines:
            if (m := re.match(r"a=extmap:(\d+)(?:/\w+)? (\S+)", x)) and m[2] == uri:
                return int(m[1])
        return None

    def payload_type(self, codec: str) -> int | None:
        """The payload type of ``OPUS`` or ``H264``; the latter with packetization-mode 1, baseline first."""
        found = [
            pt
            for pt in self.formats
            if (self.attribute("rtpmap", pt) or "").upper().startswith(codec + "/")
            and (codec != "H264" or "packetization-mode=1" in (self.attribute("fmtp", pt) or ""))
        ]
        baseline = [pt for pt in found if "profile-level-id=42" in (self.attribute("fmtp", pt) or "").lower()]
        return next(iter(baseline + found), None)


@dataclass(frozen=True, slots=True)
class Description:
    """An SDP as its session part and its media sections."""

    session: tuple[str, ...]
    media: tuple[Section, ...]

    def __str__(self) -> str:
        lines = [*self.session, *(x for section in self.media for x in section.lines)]
        return "\r\n".join(lines) + "\r\n"


def parse_sdp(sdp: str) -> Description:
    """Split an SDP into sections.

    Raises:
        ValueError: it does not start with ``v=0``.
    """
    if not sdp.startswith("v=0"):
        raise ValueError("not an SDP: it does not start with v=0")
    parts: list[list[str]] = [[]]
    for text in sdp.splitlines():
        if text.startswith("m="):
            parts.append([])
        if text.strip():
            parts[-1].append(text.strip())
    return Description(tuple(parts[0]), tuple(Section(tuple(p)) for p in parts[1:]))


def _map_lines(section: Section, edit: Mapping[str, str]) -> Section:
    return replace(section, lines=tuple(edit.get(x, x) for x in section.lines))


def _without_profile(section: Section) -> Section:
    lines = []
    for x in section.lines:
        if x.startswith("a=fmtp:") and "profile-level-id" in x.lower():
            head, _, parameters = x.partition(" ")
            x = f"{head} {_PROFILE.sub('', parameters).lstrip('; ')}"
        lines.append(x)
    return Section(tuple(lines))


def _only_usable_video(section: Section) -> Section:
    """Keep one H.264 (packetization-mode 1), if there is any, then one VP8, and their retransmission."""
    if section.kind != "video" or section.payload_type("H264") is None:
        return section
    kept = [pt for codec in ("H264", "VP8") if (pt := section.payload_type(codec)) is not None]
    repairs = {f"apt={pt}" for pt in kept}
    kept += [pt for pt in section.formats if (section.attribute("fmtp", pt) or "").strip() in repairs]
    drop = {str(pt) for pt in section.formats if pt not in kept}
    head, lines = section.lines[0].split(" "), section.lines[1:]
    head = head[:3] + [str(pt) for pt in kept]
    return Section(
        (
            " ".join(head),
            *(
                x
                for x in lines
                if not ((m := re.match(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d+) ", x)) and m[1] in drop)
            ),
        )
    )


def for_webrtcbin(remote: Description) -> str:
    """The remote description as webrtcbin may see it: one H.264, one VP8, no profile, usable candidates."""
    media = []
    for section in remote.media:
        section = _without_profile(_only_usable_video(section))
        media.append(Section(tuple(x for x in section.lines if usable_candidate_line(x))))
    return str(Description(remote.session, tuple(media)))


def usable_candidate_line(text: str) -> bool:
    """False for candidates that can't work from here: link-local addresses and mDNS names."""
    return "candidate:" not in text or not _UNUSABLE_CANDIDATE.search(text)


def _profile_lines(section: Section, profiles: Mapping[int, str]) -> Section:
    edit = {}
    for pt, profile in profiles.items():
        parameters = section.attribute("fmtp", pt)
        if parameters is not None and "profile-level-id" not in parameters:
            text = f"a=fmtp:{pt} {parameters}"
            edit[text] = f"{text};profile-level-id={profile};level-asymmetry-allowed=1"
    return _map_lines(section, edit)


def profiles_of(description: Description) -> dict[int, str]:
    """``profile-level-id`` of each H.264 payload type in it."""
    found = {}
    for section in description.media:
        for pt in section.formats:
            if m := re.search(r"profile-level-id=([0-9a-fA-F]{6})", section.attribute("fmtp", pt) or ""):
                found[pt] = m[1]
    return found


def with_receiver(local: Description, ssrc: int, cname: str) -> Description:
    """Name the SSRC that our RTCP comes from in the video section that receives (RFC 5576).

    One RTP session receives all sections of a bundle, so its RTCP is of no section by itself; key-frame
    requests are about video, and Janus takes a packet for the section of its sender's SSRC (decision 0032).
    """
    media = list(local.media)
    index = next((i for i, s in enumerate(media) if s.kind == "video" and s.receives), None)
    if index is not None:
        media[index] = Section((*media[index].lines, f"a=ssrc:{ssrc} cname:{cname}"))
    return replace(local, media=tuple(media))


def for_platform(
    local: Description, candidates: Iterable[tuple[int, str]], profiles: Mapping[int, str], *, offer: bool
) -> str:
    """webrtcbin's local description as the platform gets it.

    Args:
        local: what webrtcbin made.
        candidates: (m-line, ``candidate:...``) as gathered.
        profiles: ``profile-level-id`` by payload type.
        offer: it is an offer: its bundled m-lines get port 9, for platforms that take 0 as rejected.
    """
    by_line: dict[int, list[str]] = {}
    for mline, candidate in candidates:
        if candidate and usable_candidate_line(candidate):
            by_line.setdefault(mline, []).append(f"a={candidate.removeprefix('a=')}")
    media = []
    for index, section in enumerate(local.media):
        lines = [x for x in section.lines if "transport-cc" not in x and x != "a=rtcp-mux-only"]
        if offer and "a=bundle-only" in lines:
            lines[0] = lines[0].replace(f"m={section.kind} 0 ", f"m={section.kind} 9 ")
            lines.remove("a=bundle-only")
        found = [x for x in dict.fromkeys(by_line.get(index, ())) if x not in lines]
        if found:
            lines += [*found, "a=end-of-candidates"]
        media.append(_profile_lines(Section(tuple(lines)), profiles))
    session = tuple(x for x in local.session if x != "a=ice-options:trickle")
    return str(Description(session, tuple(media)))
