"""What the focus offers, as facts: Jingle (XEP-0166, 0167, 0176, 0320, 0339, and what Jitsi adds). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.jitsi.stanzas import FOCUS, JITMEET, find, find_all, text_of

JINGLE = "urn:xmpp:jingle:1"
RTP = "urn:xmpp:jingle:apps:rtp:1"
FEEDBACK = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0"
EXTENSION = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0"
SOURCE = "urn:xmpp:jingle:apps:rtp:ssma:0"
GROUPING = "urn:xmpp:jingle:apps:grouping:0"
ICE = "urn:xmpp:jingle:transports:ice-udp:1"
DTLS = "urn:xmpp:jingle:apps:dtls:0"
SCTP = "urn:xmpp:jingle:transports:dtls-sctp:1"
COLIBRI = "http://jitsi.org/protocol/colibri"
COLIBRI2 = "jitsi:colibri2"

MAX_ENTRIES = 256
"""Payload types, candidates, sources: more of one kind is no session of this world."""

_TOKEN = re.compile(r"[!-~]{1,256}")
_PARAMETER = re.compile(r"[ -~]{0,512}")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,63}")


class BadJingle(ValueError):
    """The session can't be used."""


@dataclass(frozen=True, slots=True)
class PayloadType:
    """One codec of a content."""

    number: int
    name: str
    clock_rate: int
    channels: int = 1
    parameters: tuple[tuple[str, str], ...] = ()
    feedback: tuple[str, ...] = ()
    """As in ``a=rtcp-fb``: ``nack pli``."""

    @property
    def repairs(self) -> int | None:
        """The payload type that this one retransmits (RFC 4588)."""
        apt = dict(self.parameters).get("apt", "")
        return int(apt) if self.name.lower() == "rtx" and apt.isascii() and apt.isdigit() else None


@dataclass(frozen=True, slots=True)
class Source:
    """One SSRC that is announced."""

    ssrc: int
    name: str | None = None
    owner: str | None = None
    video_type: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate (RFC 8839)."""

    foundation: str
    component: int
    protocol: str
    priority: int
    address: str
    port: int
    kind: str
    related: tuple[str, int] | None = None

    def line(self) -> str:
        """As in SDP, from ``candidate:`` on."""
        related = f" raddr {self.related[0]} rport {self.related[1]}" if self.related else ""
        return (
            f"candidate:{self.foundation} {self.component} {self.protocol} {self.priority} {self.address}"
            f" {self.port} typ {self.kind}{related} generation 0"
        )


@dataclass(frozen=True, slots=True)
class Transport:
    """How the bridge is reached."""

    ufrag: str
    password: str
    fingerprint: str = ""
    hash: str = "sha-256"
    setup: str = "actpass"
    candidates: tuple[Candidate, ...] = ()
    web_sockets: tuple[str, ...] = ()
    """Addresses of the bridge channel."""
    sctp_port: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """One medium of the session."""

    name: str
    media: str
    payload_types: tuple[PayloadType, ...] = ()
    extensions: tuple[tuple[int, str], ...] = ()
    sources: tuple[Source, ...] = ()
    transport: Transport | None = None

    def codec(self, name: str) -> PayloadType | None:
        """The first payload type of that codec; of H.264 one with packetization-mode 1, if there is any."""
        found = [p for p in self.payload_types if p.name.lower() == name.lower()]
        whole = [p for p in found if any("packetization-mode=1" in f"{k}={v}" for k, v in p.parameters)]
        return next(iter(whole + found), None)

    def repair_of(self, payload_type: PayloadType) -> PayloadType | None:
        """Its retransmission."""
        return next((p for p in self.payload_types if p.repairs == payload_type.number), None)


@dataclass(frozen=True, slots=True)
class Session:
    """A Jingle stanza about a session: ``action``, and what it says."""

    action: str
    sid: str
    initiator: str
    contents: tuple[Content, ...] = ()
    bridge_session: str | None = None
    reason: str | None = None

    def content(self, media: str) -> Content | None:
        """The content of that medium."""
        return next((c for c in self.contents if c.media == media), None)

    @property
    def transport(self) -> Transport | None:
        """The transport that all contents share."""
        return next((c.transport for c in self.contents if c.transport and c.transport.ufrag), None)

    @property
    def sctp_port(self) -> int | None:
        """Where data channels go; None: there are none. It is told in the transport of their content."""
        return next(
            (c.transport.sctp_port for c in self.contents if c.transport and c.transport.sctp_port), None
        )


def parse_jingle(jingle: Element, sender: str) -> Session:
    """The facts of a ``<jingle/>`` element from ``sender``.

    Raises:
        BadJingle: it has no action or session id, or something in it that is no value of its kind.
    """
    action, sid = jingle.get("action", ""), jingle.get("sid", "")
    if not action or not sid:
        raise BadJingle("a Jingle stanza without action or sid")
    reason = find(jingle, JINGLE, "reason")
    bridge = find(jingle, FOCUS, "bridge-session")
    names = [x.tag.rpartition("}")[2] for x in reason] if reason is not None else []
    return Session(
        action=action,
        sid=sid,
        initiator=jingle.get("initiator") or sender,
        contents=tuple(_content(x) for x in _some(jingle, JINGLE, "content")),
        bridge_session=bridge.get("id") if bridge is not None else None,
        reason=next((x for x in names if x != "text"), None),
    )


def _some(parent: Element, namespace: str, name: str) -> list[Element]:
    found = list(find_all(parent, namespace, name))
    if len(found) > MAX_ENTRIES:
        raise BadJingle(f"{len(found)} elements <{name}/>; at most {MAX_ENTRIES} are taken")
    return found


def _content(content: Element) -> Content:
    description, transport = find(content, RTP, "description"), find(content, ICE, "transport")
    name = _token(content.get("name", ""), "name")
    if description is None:
        return Content(name, name, transport=_transport(transport))
    return Content(
        name=name,
        media=_token(description.get("media") or name, "media"),
        payload_types=tuple(_payload_type(x) for x in _some(description, RTP, "payload-type")),
        extensions=tuple(
            (_number(x.get("id"), 255), _token(x.get("uri", ""), "uri"))
            for x in _some(description, EXTENSION, "rtp-hdrext")
        ),
        sources=tuple(_source(x) for x in _some(description, SOURCE, "source")),
        transport=_transport(transport),
    )


def _payload_type(one: Element) -> PayloadType:
    feedback = (
        f"{x.get('type', '')} {x.get('subtype') or ''}".strip() for x in _some(one, FEEDBACK, "rtcp-fb")
    )
    return PayloadType(
        number=_number(one.get("id"), 127),
        name=_token(one.get("name", ""), "codec"),
        clock_rate=_number(one.get("clockrate"), 1_000_000),
        channels=_number(one.get("channels") or "1", 255),
        parameters=tuple(
            (_parameter(x.get("name", "")), _parameter(x.get("value", "")))
            for x in _some(one, RTP, "parameter")
        ),
        feedback=tuple(_parameter(x) for x in feedback),
    )


def _source(one: Element) -> Source:
    info = find(one, JITMEET, "ssrc-info")
    return Source(
        ssrc=_number(one.get("ssrc"), 0xFFFFFFFF),
        name=one.get("name"),
        owner=info.get("owner") if info is not None else None,
        video_type=one.get("videoType"),
    )


def _transport(one: Element | None) -> Transport | None:
    if one is None or not one.get("ufrag"):
        return None
    fingerprint = find(one, DTLS, "fingerprint")
    value = (fingerprint.text or "").strip() if fingerprint is not None else ""
    if value and not _FINGERPRINT.fullmatch(value):
        raise BadJingle("the fingerprint is none")
    sctp_map = find(one, SCTP, "sctpmap")
    sctp = sctp_map.get("number") if sctp_map is not None else text_of(one, SCTP, "port")
    return Transport(
        ufrag=_token(one.get("ufrag", ""), "ufrag"),
        password=_token(one.get("pwd", ""), "pwd"),
        fingerprint=value,
        hash=_token(fingerprint.get("hash") or "sha-256", "hash") if fingerprint is not None else "sha-256",
        setup=_token(fingerprint.get("setup") or "actpass", "setup")
        if fingerprint is not None
        else "actpass",
        candidates=tuple(_candidate(x) for x in _some(one, ICE, "candidate")),
        web_sockets=tuple(url for x in _some(one, COLIBRI, "web-socket") if (url := x.get("url"))),
        sctp_port=_number(sctp, 65535) if sctp else None,
    )


def _candidate(one: Element) -> Candidate:
    address, port = one.get("rel-addr"), one.get("rel-port")
    return Candidate(
        foundation=_token(one.get("foundation", ""), "foundation"),
        component=_number(one.get("component"), 256),
        protocol=_token(one.get("protocol", ""), "protocol").lower(),
        priority=_number(one.get("priority"), 0xFFFFFFFF),
        address=_token(one.get("ip", ""), "ip"),
        port=_number(one.get("port"), 65535),
        kind=_token(one.get("type", ""), "type"),
        related=(_token(address, "rel-addr"), _number(port, 65535)) if address and port else None,
    )


def _token(text: str, what: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise BadJingle(f"{what}: {text[:40]!r} is no such thing")
    return text


def _parameter(text: str) -> str:
    if not _PARAMETER.fullmatch(text):
        raise BadJingle(f"{text[:40]!r} can't be in SDP")
    return text


def _number(text: str | None, most: int) -> int:
    if not text or not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > most:
        raise BadJingle(f"{(text or '')[:40]!r} is no number up to {most}")
    return int(text)
