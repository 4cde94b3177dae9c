"""RTP ports: pairs of an even port for RTP and the odd one above for RTCP (RFC 3550, section 11)."""

from __future__ import annotations

from collections import deque


class PortsExhausted(Exception):
    """No pair is free."""


class PortPairs:
    """Hands out pairs of ``first`` to ``last``; a freed one comes last, so that late RTP hits nobody."""

    def __init__(self, first: int, last: int) -> None:
        self._free = deque(range(first + first % 2, last, 2))
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        """How many pairs are free."""
        return len(self._free)

    def take(self) -> int:
        """The even port of a free pair.

        Raises:
            PortsExhausted: none is free.
        """
        if not self._free:
            raise PortsExhausted(f"all {len(self._taken)} RTP port pairs are in use")
        port = self._free.popleft()
        self._taken.add(port)
        return port

    def give_back(self, port: int) -> None:
        """Free the pair; nothing happens when it is free already."""
        if port in self._taken:
            self._taken.remove(port)
            self._free.append(port)
