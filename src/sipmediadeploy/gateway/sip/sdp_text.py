"""The text of a session description as values (RFC 8866): strict about numbers, lenient about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from sipmediadeploy.gateway.media.api import Direction

MAX_BYTES = 65_536
MAX_MEDIA = 32
MAX_FORMATS = 128
DIRECTIONS: Mapping[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}
_STATIC = {0: ("PCMU", 8000, 1), 8: ("PCMA", 8000, 1)}
"""Payload types that need no rtpmap (RFC 3551); the others of that table are no use here."""


class SdpError(Exception):
    """The session description can't be used; ``status`` is the SIP status code that says so (400 or 488)."""

    def __init__(self, reason: str, status: int = 488) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Payload:
    """One RTP payload type of an m-line."""

    number: int
    encoding: str
    """In upper case."""
    clock_rate: int
    channels: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of ``a=fmtp``, names in lower case."""


@dataclass(frozen=True, slots=True)
class Media:
    """One m-line and what belongs to it."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    address: str | None
    """Of the media's or the session's ``c=``; None: no IPv4 address that media can go to."""
    direction: Direction = "sendrecv"
    payloads: tuple[Payload, ...] = ()
    feedback: frozenset[tuple[str, str]] = frozenset()
    """``a=rtcp-fb`` (RFC 4585): (payload type or ``*``, what)."""
    bandwidth: Mapping[str, int] = field(default_factory=dict)
    ptime: int | None = None
    maxptime: int | None = None
    content: str = ""
    """``a=content`` (RFC 4796): ``slides`` for a second picture."""

    @property
    def on_hold(self) -> bool:
        """The old way to say hold: an address of zeros (RFC 3264, section 8.4)."""
        return self.address == "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Description:
    """A session description."""

    media: tuple[Media, ...]
    bandwidth: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Section:
    """The lines of the session part or of one media part."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def first(self, kind: str) -> str | None:
        return next((value for key, value in self.lines if key == kind), None)

    def attributes(self, name: str) -> list[str]:
        return [
            v.partition(":")[2].strip() for k, v in self.lines if k == "a" and v.partition(":")[0] == name
        ]


def number(text: str, what: str, highest: int) -> int:
    """A decimal number from 0 to ``highest``.

    Raises:
        SdpError: it is something else.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= highest):
        raise SdpError(f"SDP: {what} is not a number from 0 to {highest}: {text[:20]!r}", 400)
    return int(text)


def parse(text: str) -> Description:
    """Read a session description.

    Raises:
        SdpError: it is none (status 400).
    """
    if len(text) > MAX_BYTES:
        raise SdpError(f"SDP: longer than {MAX_BYTES} characters", 400)
    session, parts = _sections(text)
    if len(parts) > MAX_MEDIA:
        raise SdpError(f"SDP: more than {MAX_MEDIA} m-lines", 400)
    return Description(tuple(_media(part, session) for part in parts), _bandwidth(session))


def _sections(text: str) -> tuple[_Section, list[_Section]]:
    session = _Section()
    current, parts = session, list[_Section]()
    for line in text.replace("\r", "\n").split("\n"):
        if not line.strip():
            continue
        kind, equals, value = line.strip().partition("=")
        if not equals or len(kind) != 1:
            raise SdpError(f"SDP: not a line of the form x=...: {line[:40]!r}", 400)
        if kind == "m":
            current = _Section()
            parts.append(current)
        current.lines.append((kind, value.strip()))
    if session.first("v") != "0":
        raise SdpError("SDP: it does not start with v=0", 400)
    return session, parts


def _media(part: _Section, session: _Section) -> Media:
    line = part.first("m") or ""
    kind, port, protocol, *formats = [*line.split(), "", "", ""][: 3 + MAX_FORMATS]
    if not protocol:
        raise SdpError(f"SDP: not an m-line: {line[:60]!r}", 400)
    formats = [f for f in formats if f]
    rtp = protocol.upper().startswith("RTP/")
    return Media(
        kind=kind.lower(),
        port=number(port.partition("/")[0], "the port of an m-line", 65535),
        protocol=protocol.upper(),
        formats=tuple(formats),
        address=_address(part.first("c") or session.first("c")),
        direction=_direction(part) or _direction(session) or "sendrecv",
        payloads=_payloads(part, formats) if rtp else (),
        feedback=_feedback(part) | _feedback(session),
        bandwidth=_bandwidth(part),
        ptime=_milliseconds(part, "ptime"),
        maxptime=_milliseconds(part, "maxptime"),
        content=next(iter(part.attributes("content")), "").lower(),
    )


def _address(connection: str | None) -> str | None:
    fields = (connection or "").split()
    if len(fields) != 3 or fields[0].upper() != "IN" or fields[1].upper() != "IP4":
        return None
    try:
        address = IPv4Address(fields[2].partition("/")[0])
    except AddressValueError:
        return None
    if address.is_multicast or address.is_reserved:
        return None
    return str(address)


def _direction(section: _Section) -> Direction | None:
    return next(
        (DIRECTIONS[v.lower()] for k, v in section.lines if k == "a" and v.lower() in DIRECTIONS), None
    )


def _payloads(part: _Section, formats: list[str]) -> tuple[Payload, ...]:
    maps = {pt: rest for pt, _, rest in (v.partition(" ") for v in part.attributes("rtpmap"))}
    parameters = {
        pt: _parameters(rest) for pt, _, rest in (v.partition(" ") for v in part.attributes("fmtp"))
    }
    found = []
    for text in dict.fromkeys(formats):
        pt = number(text, "a payload type", 127)
        if text in maps:
            encoding, _, rest = maps[text].strip().partition("/")
            rate, _, channels = rest.partition("/")
            found.append(
                Payload(
                    pt,
                    encoding.upper(),
                    number(rate, "the clock rate of an rtpmap", 1_000_000),
                    number(channels or "1", "the channels of an rtpmap", 255),
                    parameters.get(text, {}),
                )
            )
        elif pt in _STATIC:
            found.append(Payload(pt, *_STATIC[pt], parameters.get(text, {})))
    return tuple(found)


def _parameters(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}


def _feedback(section: _Section) -> frozenset[tuple[str, str]]:
    items = (value.partition(" ") for value in section.attributes("rtcp-fb"))
    return frozenset((pt, " ".join(what.lower().split())) for pt, _, what in items)


def _bandwidth(section: _Section) -> dict[str, int]:
    found = {}
    for kind, value in section.lines:
        if kind == "b":
            name, _, figure = value.partition(":")
            found[name.strip().upper()] = number(figure.strip(), f"b={name[:10]}", 4_294_967_295)
    return found


def _milliseconds(section: _Section, name: str) -> int | None:
    values = section.attributes(name)
    digits = values[0].partition(".")[0] if values else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else None
