"""The room as presence tells it: who we are in it, who else is, and how it ends (XEP-0045). Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote
from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.base import RoomRefused
from sipmediadeploy.gateway.conference.jitsi import stanzas
from sipmediadeploy.gateway.conference.jitsi.stanzas import CLIENT, element, find, find_all, text_of

NODE = "https://sipmediadeploy.invalid/gateway"
IDENTITY = ("client", "bot", "sipmediadeploy")
JIGASI = "http://jitsi.org/protocol/jigasi"
"""In presence: browsers try no peer-to-peer connection with such a participant."""

_FORBIDDEN = re.compile(r"""[:?#\[\]@!$&'()*+,;=></"]""")
_HEX_ID = re.compile(r"[0-9a-f]{8}")
MAX_ROOM = 200
MAX_SOURCES = 64
MAX_NAME = 128


def room_node(room: str) -> str:
    """The node of the room's JID, by Jitsi Meet's rules: some characters are dropped, the rest is normalised,
    in lower case and percent-encoded, so that the link and the call lead into the same room.

    Raises:
        RoomRefused: nothing is left, or it is too long (SIP 404).
    """
    plain = unicodedata.normalize("NFKC", _FORBIDDEN.sub("", room)).lower().strip()
    node = quote(plain, safe="-_.~").lower()
    if not node or len(node) > MAX_ROOM:
        raise RoomRefused(f"{room!r} is no name of a Jitsi room", 404)
    return node


def endpoint_id(jid: str, fallback: str) -> str:
    """The nick, which is the endpoint id: Jitsi's Prosody wants the JID's first 8 characters.

    A ``-`` in it would break source names, so where the JID begins otherwise it is ``fallback``.
    """
    start = jid[:8]
    return start if _HEX_ID.fullmatch(start) else fallback


@dataclass(frozen=True, slots=True)
class Self:
    """What we tell the room about ourselves."""

    room: str
    """The room's JID."""
    endpoint: str
    name: str
    audio_muted: bool = False
    video_muted: bool = False
    codecs: tuple[str, ...] = ("h264",)
    """Video codecs that can be received and sent, best first."""
    tcc: bool = False
    sctp: bool = False

    @property
    def jid(self) -> str:
        """Our JID in the room."""
        return f"{self.room}/{self.endpoint}"


def features(me: Self) -> list[str]:
    """What we can do, as jicofo asks for it."""
    return [
        stanzas.DISCO_INFO,
        stanzas.CAPS,
        "urn:xmpp:jingle:1",
        "urn:xmpp:jingle:apps:rtp:1",
        "urn:xmpp:jingle:apps:rtp:audio",
        "urn:xmpp:jingle:apps:rtp:video",
        "urn:xmpp:jingle:apps:dtls:0",
        "urn:xmpp:jingle:transports:ice-udp:1",
        *(["urn:xmpp:jingle:transports:dtls-sctp:1"] if me.sctp else []),
        "urn:ietf:rfc:4588",
        "urn:ietf:rfc:5761",
        "urn:ietf:rfc:5888",
        "http://jitsi.org/source-name",
        "http://jitsi.org/receive-multiple-video-streams",
        "http://jitsi.org/ssrc-rewriting-1",
        "http://jitsi.org/start-muted-room-metadata",
        *(["http://jitsi.org/tcc"] if me.tcc else []),
    ]


def disco_result(me: Self, node: str | None) -> Element:
    """The answer to disco#info (XEP-0030)."""
    category, kind, name = IDENTITY
    return element(
        stanzas.DISCO_INFO,
        "query",
        {"node": node},
        element(stanzas.DISCO_INFO, "identity", {"category": category, "type": kind, "name": name}),
        *(element(stanzas.DISCO_INFO, "feature", {"var": x}) for x in features(me)),
    )


def presence(me: Self, *, join: bool, password: str | None = None) -> Element:
    """Our presence: to join with, or to tell of a change."""
    sources = {
        f"{me.endpoint}-a0": {"muted": me.audio_muted},
        f"{me.endpoint}-v0": {"muted": me.video_muted, "videoType": "camera"},
    }
    caps = {"hash": "sha-1", "node": NODE, "ver": stanzas.caps_hash(*IDENTITY, features(me))}
    password_element = element(stanzas.MUC, "password", text=password) if password is not None else None
    return element(
        CLIENT,
        "presence",
        {"to": me.jid},
        element(stanzas.MUC, "x", None, password_element) if join else None,
        element(stanzas.CAPS, "c", caps),
        element(stanzas.NICK, "nick", text=me.name),
        element(CLIENT, "stats-id", text="sipmediadeploy"),
        element(CLIENT, "jitsi_participant_codecList", text=",".join(me.codecs)),
        element(CLIENT, "jitsi_participant_codecType", text=me.codecs[0]),
        element(CLIENT, "SourceInfo", text=json.dumps(sources, separators=(",", ":"))),
        element(CLIENT, "audiomuted", text=_boolean(me.audio_muted)),
        element(CLIENT, "videomuted", text=_boolean(me.video_muted)),
        element(CLIENT, "features", None, element(CLIENT, "feature", {"var": JIGASI})),
    )


def leave(me: Self) -> Element:
    """The presence that leaves the room."""
    return element(CLIENT, "presence", {"to": me.jid, "type": "unavailable"})


def _boolean(value: bool) -> str:
    return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Source:
    """One of a participant's sources."""

    name: str
    muted: bool
    video_type: str | None = None
    """``camera`` or ``desktop``; None for audio."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in the room, as his latest presence tells."""

    endpoint: str
    name: str
    affiliation: str = "none"
    role: str = "none"
    jid: str | None = None
    """His real JID, where the room shows it."""
    sources: tuple[Source, ...] = ()
    codecs: tuple[str, ...] = ()
    is_self: bool = False

    @property
    def screen(self) -> str | None:
        """The name of his shared screen's source."""
        return next((s.name for s in self.sources if s.video_type == "desktop" and not s.muted), None)


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody has left; for ourselves ``why`` is the reason's name."""

    endpoint: str
    is_self: bool
    why: Literal["left", "kicked", "room-closed"] = "left"


@dataclass(frozen=True, slots=True)
class Refused:
    """The room does not let us in."""

    kind: Literal["password", "lobby", "banned", "login", "not-there", "full", "nick", "other"]
    text: str
    lobby: str | None = None

    @property
    def at_door(self) -> bool:
        """The caller can do something about it: dial the password, or wait to be let in."""
        return self.kind == "password" or (self.kind == "lobby" and self.lobby is not None)

    def error(self) -> RoomRefused:
        """As the conference seam says it."""
        return RoomRefused(self.text, {"full": 486, "not-there": 404}.get(self.kind, 403))


def parse_presence(stanza: Element, me: Self) -> Member | Left | Refused | None:
    """What a presence stanza means; None: it is not about our room."""
    room, _, endpoint = (stanza.get("from") or "").partition("/")
    if room != me.room:
        return None
    if stanza.get("type") == "error":
        return refusal(stanza) if endpoint in ("", me.endpoint) else None
    about = find(stanza, stanzas.MUC_USER, "x")
    codes = {status.get("code") for status in find_all(about, stanzas.MUC_USER, "status")}
    is_self = "110" in codes or endpoint == me.endpoint
    if stanza.get("type") == "unavailable":
        if find(about, stanzas.MUC_USER, "destroy") is not None or "332" in codes:
            return Left(endpoint, is_self, "room-closed")
        kicked = codes & {"301", "307", "321", "322"}
        return Left(endpoint, is_self, "kicked" if kicked else "left")
    if stanza.get("type") is not None or not endpoint:
        return None
    item = find(about, stanzas.MUC_USER, "item")
    name = text_of(stanza, stanzas.NICK, "nick") or ""
    codecs = (text_of(stanza, CLIENT, "jitsi_participant_codecList") or "")[:200].lower()
    return Member(
        endpoint=endpoint,
        name=name[:MAX_NAME],
        affiliation=(item.get("affiliation") if item is not None else None) or "none",
        role=(item.get("role") if item is not None else None) or "none",
        jid=item.get("jid") if item is not None else None,
        sources=parse_source_info(text_of(stanza, CLIENT, "SourceInfo") or ""),
        codecs=tuple(x for x in codecs.split(",") if x),
        is_self=is_self,
    )


def parse_source_info(text: str) -> tuple[Source, ...]:
    """The sources that ``SourceInfo`` lists; what is not understood is left out."""
    try:
        data = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return ()
    if not isinstance(data, dict):
        return ()
    found = []
    for name, about in list(data.items())[:MAX_SOURCES]:
        if not isinstance(about, dict):
            continue
        kind = about.get("videoType")
        if not isinstance(kind, str):
            kind = "camera" if "-v" in name else None
        found.append(Source(name, about.get("muted") is True, kind))
    return tuple(found)


def refusal(stanza: Element) -> Refused:
    """Why a presence was answered with an error, in words for a caller."""
    condition, text, error = stanzas.error_of(stanza)
    detail = f": {text}" if text else ""
    jitmeet = [stanzas.local_name(x) for x in error or () if stanzas.split_name(x.tag)[0] == stanzas.JITMEET]
    match condition:
        case "not-authorized":
            return Refused("password", f"the room wants a password{detail}")
        case "registration-required":
            lobby = next((x.text for x in error or () if stanzas.local_name(x) == "lobbyroom"), None)
            return Refused("lobby", f"the room has a lobby: a moderator must let you in{detail}", lobby)
        case "forbidden":
            return Refused("banned", f"banned from the room{detail}")
        case "service-unavailable" | "resource-constraint":
            return Refused("full", f"the room is full{detail}")
        case "not-allowed" if "authentication-required" in jitmeet:
            return Refused("login", f"the platform wants a login (a token){detail}")
        case "not-allowed" | "item-not-found":
            return Refused("not-there", f"the room does not exist and may not be made{detail}")
        case "conflict":
            return Refused("nick", f"the endpoint id is taken{detail}")
        case _:
            return Refused("other", f"the room refused: {condition}{detail}")


def screen_shares(members: Iterable[Member]) -> list[str]:
    """The source names of all shared screens, by who has been in the room longest."""
    return [screen for m in members if not m.is_self and (screen := m.screen) is not None]
