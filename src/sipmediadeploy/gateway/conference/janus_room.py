"""What a Janus videoroom says, as facts, and what follows from them. Pure.

Source: Janus documentation, "VideoRoom plugin documentation", version 1.1 (multistream).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]

MAX_PUBLISHERS = 64


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of one publisher."""

    feed: str
    mid: str
    medium: str
    """``audio`` or ``video``."""
    codec: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """Somebody who sends."""

    feed: str
    display: str
    sources: tuple[Source, ...]

    def source(self, medium: str, codec: str) -> Source | None:
        """The publisher's first stream of that medium and codec."""
        return next((s for s in self.sources if s.medium == medium and s.codec == codec), None)


@dataclass(frozen=True, slots=True)
class Line:
    """One m-line of our subscription; without a source it is idle."""

    mid: str
    medium: str
    source: tuple[str, str] | None
    """(feed, mid at the publisher)."""


@dataclass(frozen=True, slots=True)
class Update:
    """Streams to add and m-lines to free; renegotiates."""

    subscribe: tuple[Source, ...]
    unsubscribe: tuple[str, ...]

    def body(self) -> Json:
        """The ``update`` request."""
        body: Json = {"request": "update"}
        if self.subscribe:
            body["subscribe"] = [{"feed": s.feed, "mid": s.mid} for s in self.subscribe]
        if self.unsubscribe:
            body["unsubscribe"] = [{"sub_mid": mid} for mid in self.unsubscribe]
        return body


@dataclass(frozen=True, slots=True)
class Switch:
    """Another source for a running m-line; needs no renegotiation."""

    line: str
    to: Source

    def body(self) -> Json:
        """The ``switch`` request."""
        return {
            "request": "switch",
            "streams": [{"feed": self.to.feed, "mid": self.to.mid, "sub_mid": self.line}],
        }


def publishers_of(data: Mapping[str, Any]) -> list[Publisher]:
    """The publishers that a ``joined`` or ``event`` message lists."""
    return [
        Publisher(
            feed=str(entry["id"]),
            display=str(entry.get("display", "")),
            sources=tuple(
                Source(str(entry["id"]), str(s["mid"]), str(s["type"]), str(s.get("codec", "")).lower())
                for s in entry.get("streams", ())
                if not s.get("disabled")
            ),
        )
        for entry in data.get("publishers", ())
        if not entry.get("dummy")
    ]


def speaking_of(data: Mapping[str, Any]) -> dict[str, bool]:
    """Participant -> whether he speaks, as far as the message says so."""
    kind = data.get("videoroom")
    if kind in ("talking", "stopped-talking"):
        return {str(data["id"]): kind == "talking"}
    return {str(p["id"]): bool(p["talking"]) for p in data.get("publishers", ()) if "talking" in p}


def gone_of(data: Mapping[str, Any]) -> str | None:
    """The participant who has left or stopped sending, if the message tells of one (``ok``: ourselves)."""
    for key in ("unpublished", "leaving", "kicked"):
        if key in data:
            return str(data[key])
    return None


def lines_of(data: Mapping[str, Any]) -> tuple[Line, ...]:
    """The m-lines of an ``attached``, ``updated`` or ``switched`` message."""
    return tuple(
        Line(
            mid=str(s["mid"]),
            medium=str(s.get("type", "")),
            source=(str(s["feed_id"]), str(s["feed_mid"]))
            if s.get("active", True) and "feed_id" in s and "feed_mid" in s
            else None,
        )
        for s in data.get("streams", ())
    )


def without(lines: Iterable[Line], feed: str) -> tuple[Line, ...]:
    """The m-lines after ``feed`` has gone: Janus has idled those that it fed."""
    return tuple(replace(x, source=None) if x.source and x.source[0] == feed else x for x in lines)


def next_step(lines: Sequence[Line], wanted: Sequence[Source]) -> Update | Switch | None:
    """What to ask of Janus so that the subscription becomes ``wanted`` (at most one of it video).

    A running video m-line is switched; everything else is an update, which reuses idle m-lines.
    """
    have = {line.source: line for line in lines if line.source}
    want = {(s.feed, s.mid): s for s in wanted}
    video = next((line for line in lines if line.medium == "video" and line.source), None)
    missing = [s for key, s in want.items() if key not in have]
    surplus = [line.mid for key, line in have.items() if key not in want]
    new_video = next((s for s in missing if s.medium == "video"), None)
    if video is not None and new_video is not None:
        missing.remove(new_video)
        surplus.remove(video.mid)
        if not missing and not surplus:
            return Switch(video.mid, new_video)
        # The audio first: a switch is asked for in the step after.
    if missing or surplus:
        return Update(tuple(missing), tuple(surplus))
    return None


def create_body(room: str, video_kbps: int) -> Json:
    """The ``create`` request: H.264 and Opus only, so that pictures can be passed through unchanged.

    The room's secret is thrown away: nobody can destroy the room or kick others (decision 0030).
    A participant is said to speak when the mean of half a second is louder than -55 dBov.
    """
    return {
        "request": "create",
        "room": room,
        "description": room,
        "permanent": False,
        "is_private": True,
        "secret": secrets.token_urlsafe(24),
        "publishers": MAX_PUBLISHERS,
        "bitrate": video_kbps * 1000,
        "fir_freq": 0,
        "audiocodec": "opus",
        "videocodec": "h264",
        "h264_profile": "42e01f",
        "opus_fec": True,
        "audiolevel_ext": True,
        "audiolevel_event": True,
        "audio_active_packets": 25,
        "audio_level_average": 55,
        "notify_joining": False,
    }
