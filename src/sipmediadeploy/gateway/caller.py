"""Who calls which room, from what the INVITE says: pure."""

from __future__ import annotations

import re
import unicodedata

_ROOM = re.compile(r"[\w.~+=-]{1,64}")
_FAST_UPDATE = re.compile(rb"<\s*(?:\w+:)?picture_fast_update\b")
_SIGNAL = re.compile(r"^\s*signal\s*=\s*([0-9A-Da-d*#])\s*$", re.IGNORECASE | re.MULTILINE)

FAST_UPDATE_TYPE = "application/media_control+xml"
FAST_UPDATE = (
    '<?xml version="1.0" encoding="utf-8"?>\r\n'
    "<media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive></media_control>\r\n"
)
"""RFC 5168, section 5."""


def room_name(user: str) -> str | None:
    """The room of a (percent-decoded) user part; None when it is no room name."""
    room = unicodedata.normalize("NFC", user)
    return room if _ROOM.fullmatch(room) else None


def display_name(name: str, user: str) -> str:
    """What others see: the display name, else the user part, without control characters, at most 64 long."""
    for text in (name, user):
        clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        if clean:
            return clean[:64]
    return "SIP"


def wants_keyframe(body: bytes) -> bool:
    """Whether an INFO of type :data:`FAST_UPDATE_TYPE` asks for a key frame (not parsed as XML: no bombs)."""
    return _FAST_UPDATE.search(body[:4096]) is not None


def dtmf_signal(content_type: str, body: bytes) -> str | None:
    """The digit of an INFO with ``application/dtmf-relay`` or ``application/dtmf``; None: there is none."""
    text = body[:256].decode("ascii", errors="replace")
    if content_type == "application/dtmf-relay":
        found = _SIGNAL.search(text)
        return found.group(1).upper() if found else None
    digit = text.strip().upper()
    return digit if len(digit) == 1 and digit in "0123456789ABCD*#" else None
