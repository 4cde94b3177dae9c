"""Stream management (XEP-0198): what was sent and not acknowledged, what was received. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

MAX_UNACKED = 500
REQUEST_EVERY = 5
"""An acknowledgement is asked for after so many stanzas."""
_MODULUS = 1 << 32


class Overflow(Exception):
    """The server acknowledges nothing."""


class StreamManagement:
    """Counters of one managed stream; they count from ``<enable/>`` on."""

    def __init__(self) -> None:
        self._unacked: deque[str] = deque()
        self._acked = 0
        self._since_request = 0
        self.received = 0
        """Stanzas received, as ``h`` says it."""

    def sent(self, stanza: str) -> bool:
        """Note a sent stanza; True: ask for an acknowledgement now.

        Raises:
            Overflow: too many have not been acknowledged.
        """
        if len(self._unacked) >= MAX_UNACKED:
            raise Overflow(f"{MAX_UNACKED} stanzas were not acknowledged")
        self._unacked.append(stanza)
        self._since_request += 1
        if self._since_request < REQUEST_EVERY:
            return False
        self._since_request = 0
        return True

    def got(self) -> None:
        """Note a received stanza."""
        self.received = (self.received + 1) % _MODULUS

    def acknowledged(self, h: int) -> None:
        """The server has handled ``h`` stanzas; more than were sent is ignored."""
        count = (h - self._acked) % _MODULUS
        if count <= len(self._unacked):
            for _ in range(count):
                self._unacked.popleft()
            self._acked = h

    @property
    def unacknowledged(self) -> Sequence[str]:
        """What must be sent again after a resumption, in order."""
        return tuple(self._unacked)
