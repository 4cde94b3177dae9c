"""What the server and a worker process say to each other: one JSON object a line, both ways (pure).

* request ``{"id": 7, "do": "offer", "with": {"peer": "up"}}``
* reply ``{"id": 7, "ok": VALUE}`` or ``{"id": 7, "error": "what failed"}``
* event ``{"event": "dtmf", "with": ["5"]}``; names are the fields of
  :class:`~sipmediadeploy.gateway.media.api.WorkerEvents`, plus ``ready`` (once, at the start) and ``fatal``
  (the reason, just before the process ends itself).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sipmediadeploy.gateway.media.api import (
    AudioStream,
    IceServers,
    MediaStats,
    SipMedia,
    StreamStats,
    VideoStream,
)

LINE_LIMIT = 4 * 1024 * 1024
"""Longest line in bytes; SDP of a large room is some 100 kB."""

Message = dict[str, Any]


def line(message: Message) -> bytes:
    """One message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def parse(text: bytes) -> Message:
    """One line as a message.

    Raises:
        ValueError: it is not a JSON object.
    """
    message = json.loads(text)
    if not isinstance(message, dict):
        raise ValueError(f"not a message: {text[:80]!r}")
    return message


class LineSplitter:
    """Cuts a byte stream into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends.

        Raises:
            ValueError: a line is longer than :data:`LINE_LIMIT`.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT:
            raise ValueError("line too long")
        return lines


def sip_media_to_wire(media: SipMedia) -> Message:
    """``media`` as JSON values."""
    return asdict(media)


def sip_media_from_wire(value: Message) -> SipMedia:
    """The reverse of :func:`sip_media_to_wire`."""
    audio, video = value["audio"], value["video"]
    return SipMedia(
        bind_address=value["bind_address"],
        audio=AudioStream(**audio) if audio else None,
        video=VideoStream(**video) if video else None,
    )


def ice_from_wire(value: Message) -> IceServers:
    """ICE servers from JSON values (``dataclasses.asdict`` is the reverse)."""
    return IceServers(tuple(value["turn_uris"]), value["relay_only"])


def stats_from_wire(value: Message) -> MediaStats:
    """Statistics from JSON values (``dataclasses.asdict`` is the reverse)."""
    return MediaStats(**{name: StreamStats(**counters) for name, counters in value.items()})
