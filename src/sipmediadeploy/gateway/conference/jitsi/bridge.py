"""What is said on the bridge channel (colibri), as values. Pure.

Source: the ``BridgeChannelMessage`` types of Jitsi Videobridge; JSON objects with ``colibriClass``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_CHARACTERS = 256 * 1024
MAX_SOURCES = 512


class BadMessage(ValueError):
    """Not a message of the bridge."""


@dataclass(frozen=True, slots=True)
class ServerHello:
    """The channel works."""

    version: str | None = None


@dataclass(frozen=True, slots=True)
class DominantSpeaker:
    """Who speaks now; ``previous`` spoke before, latest first."""

    endpoint: str
    previous: tuple[str, ...] = ()
    silence: bool = False


@dataclass(frozen=True, slots=True)
class ForwardedSources:
    """The video sources that the bridge sends to us now."""

    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SenderSourceConstraints:
    """How high a picture of ours is wanted; 0: nobody watches."""

    source: str
    max_height: int


@dataclass(frozen=True, slots=True)
class MappedSource:
    """Which source a stream that the bridge sends belongs to."""

    source: str
    owner: str | None
    ssrc: int
    rtx: int | None = None
    video_type: str | None = None


@dataclass(frozen=True, slots=True)
class SourcesMap:
    """News of the map of one medium (``VideoSourcesMap``, ``AudioSourcesMap``): others stay as they were."""

    medium: str
    mapped: tuple[MappedSource, ...]


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """What the bridge believes that the way to us carries."""

    downlink_bps: int


@dataclass(frozen=True, slots=True)
class PingRequest:
    """A participant measures his way to us; it wants :func:`ping_response`."""

    sender: str
    number: str | int


Message = (
    ServerHello
    | DominantSpeaker
    | ForwardedSources
    | SenderSourceConstraints
    | SourcesMap
    | ConnectionStats
    | PingRequest
)


def parse_message(text: str) -> Message | None:
    """The message; None: one that does not concern us.

    Raises:
        BadMessage: it is none, or something in it is no value of its kind.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadMessage(f"{len(text)} characters")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise BadMessage(f"no JSON: {type(e).__name__}") from None
    if not isinstance(data, dict):
        raise BadMessage("no JSON object")
    match data.get("colibriClass"):
        case "ServerHello":
            version = data.get("version")
            return ServerHello(version if isinstance(version, str) else None)
        case "DominantSpeakerEndpointChangeEvent":
            previous = data.get("previousSpeakers")
            return DominantSpeaker(
                _text(data, "dominantSpeakerEndpoint"),
                tuple(x for x in previous if isinstance(x, str)) if isinstance(previous, list) else (),
                data.get("silence") is True,
            )
        case "ForwardedSources":
            return ForwardedSources(tuple(x for x in _list(data, "forwardedSources") if isinstance(x, str)))
        case "SenderSourceConstraints":
            return SenderSourceConstraints(_text(data, "sourceName"), _number(data, "maxHeight"))
        case "VideoSourcesMap":
            return SourcesMap("video", tuple(_mapped(x) for x in _list(data, "mappedSources")))
        case "AudioSourcesMap":
            return SourcesMap("audio", tuple(_mapped(x) for x in _list(data, "mappedSources")))
        case "ConnectionStats":
            return ConnectionStats(_number(data, "estimatedDownlinkBandwidth"))
        case "EndpointMessage":
            return _ping(data)
    return None


def streams_after(streams: Mapping[str, int], mapped: Sequence[MappedSource]) -> dict[str, int]:
    """Source -> SSRC after news of the map; an SSRC that is given anew is no longer of the source before.

    A source that was mapped once keeps its SSRC until that is needed for another.
    """
    given = {one.ssrc for one in mapped}
    kept = {source: ssrc for source, ssrc in streams.items() if ssrc not in given}
    return {**kept, **{one.source: one.ssrc for one in mapped}}


def _ping(data: dict[str, Any]) -> PingRequest | None:
    payload, sender = data.get("msgPayload"), data.get("from")
    if not isinstance(payload, dict) or payload.get("type") != "e2e-ping-request":
        return None
    number = payload.get("id")
    if not isinstance(sender, str) or not isinstance(number, str | int):
        raise BadMessage("a ping without sender or id")
    return PingRequest(sender, number)


def _mapped(data: Any) -> MappedSource:
    if not isinstance(data, dict):
        raise BadMessage("a mapped source is no object")
    owner, rtx, kind = data.get("owner"), data.get("rtx"), data.get("videoType")
    return MappedSource(
        source=_text(data, "source"),
        owner=owner if isinstance(owner, str) else None,
        ssrc=_number(data, "ssrc"),
        rtx=rtx if isinstance(rtx, int) and rtx > 0 else None,
        video_type=kind.lower() if isinstance(kind, str) else None,
    )


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or len(value) > 1024:
        raise BadMessage(f"{key} is no text")
    return value


def _number(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise BadMessage(f"{key} is no number")
    return value


def _list(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list) or len(value) > MAX_SOURCES:
        raise BadMessage(f"{key} is no list")
    return value


@dataclass(frozen=True, slots=True)
class Wanted:
    """What we want to receive: ``last_n`` pictures of the latest speakers, or the selected source."""

    last_n: int = 1
    max_height: int = 720
    selected: str | None = None


def receiver_constraints(wanted: Wanted) -> str:
    """``ReceiverVideoConstraints``: nothing is sent to us before we say it."""
    constraints: dict[str, Any] = {"maxHeight": wanted.max_height}
    message: dict[str, Any] = {
        "colibriClass": "ReceiverVideoConstraints",
        "lastN": wanted.last_n,
        "selectedSources": [],
        "onStageSources": [],
        "defaultConstraints": constraints,
        "constraints": {},
    }
    if wanted.selected is not None:
        message["selectedSources"] = message["onStageSources"] = [wanted.selected]
        message["constraints"] = {wanted.selected: constraints}
    return json.dumps(message)


def video_type(source: str, kind: str) -> str:
    """``SourceVideoTypeMessage``: ``camera``, ``desktop`` or ``none``."""
    return json.dumps({"colibriClass": "SourceVideoTypeMessage", "sourceName": source, "videoType": kind})


def ping_response(ping: PingRequest) -> str:
    """The answer that a measuring participant waits for."""
    payload = {"type": "e2e-ping-response", "id": ping.number}
    return json.dumps({"colibriClass": "EndpointMessage", "to": ping.sender, "msgPayload": payload})


def client_hello() -> str:
    """The first message: it makes the bridge answer ``ServerHello``."""
    return json.dumps({"colibriClass": "ClientHello"})


def wanted_of(video: bool, max_height: int, screens: Sequence[str]) -> Wanted:
    """A shared screen when there is one (the one shared first), else the dominant speaker."""
    if not video:
        return Wanted(last_n=0, max_height=max_height)
    return Wanted(1, max_height, screens[0] if screens else None)
