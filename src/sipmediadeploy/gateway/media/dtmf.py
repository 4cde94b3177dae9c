"""Telephone events, RFC 4733 (pure)."""

from __future__ import annotations

from collections.abc import Callable

DIGITS = "0123456789*#ABCD"


class DigitDetector:
    """Reports each digit once, although its event is sent in many packets (section 2.5.1.4).

    An event is known by its RTP timestamp: all its packets carry the one of its beginning.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._last: int | None = None

    def packet(self, timestamp: int, payload: bytes) -> None:
        """One packet's RTP timestamp and payload."""
        if len(payload) < 4 or timestamp == self._last or payload[0] >= len(DIGITS):
            return
        self._last = timestamp
        self._report(DIGITS[payload[0]])
