"""Whether this replica holds its service address, as the kernel tells it (rtnetlink(7)).

Nothing is asked in between: the kernel sends a message for each address that comes or goes, so that a
replica that held the address for a millisecond is seen, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from ipaddress import IPv4Address
from pathlib import Path

from sipmediadeploy import rtnetlink

_FIB_TRIE = Path("/proc/net/fib_trie")
_IFADDRMSG = 8
"""The length of ``struct ifaddrmsg``."""
_IFA_LOCAL = 2
_AGAIN_S = 5.0
"""Read anew so often, should a message have been lost."""


class ServiceAddress:
    """One address; :attr:`held` is kept up to date while :meth:`run` runs."""

    def __init__(self, address: IPv4Address, fib_trie: Path = _FIB_TRIE) -> None:
        self._address = address
        self._fib_trie = fib_trie
        self.held = self._read()
        """Whether it is one of this machine's own (binding to it does not tell: ip_nonlocal_bind)."""
        self.taken = 0
        """How often it came to this replica since :meth:`run` began."""
        self.taken_at: deque[float] = deque(maxlen=64)
        """When the last times were, in seconds of the event loop's clock."""

    async def run(self, changed: Callable[[], None]) -> None:
        """Follow it for ever; ``changed`` is called after each change.

        Raises:
            OSError: the kernel's messages can't be had.
        """
        loop = asyncio.get_running_loop()
        async with aclosing(rtnetlink.news(rtnetlink.IPV4_ADDRESSES, _AGAIN_S)) as news:
            async for told in news:
                before = self.held
                came = sum(changes(told, self._address))
                self.held = self._read()
                times = came or int(self.held and not before)
                self.taken += times
                self.taken_at.extend([loop.time()] * times)
                if came or self.held != before:
                    changed()

    def _read(self) -> bool:
        return is_local(self._address, self._fib_trie.read_text(encoding="ascii"))


def changes(told: bytes, address: IPv4Address) -> Iterator[bool]:
    """What rtnetlink messages say of ``address``, in order: True, it came; False, it went. Pure."""
    for kind, body in rtnetlink.messages(told):
        is_change = kind in (rtnetlink.NEW_ADDRESS, rtnetlink.DELETED_ADDRESS)
        if is_change and rtnetlink.attributes(body, _IFADDRMSG).get(_IFA_LOCAL) == address.packed:
            yield kind == rtnetlink.NEW_ADDRESS


def is_local(address: IPv4Address, fib_trie: str) -> bool:
    """Whether ``address`` is local by the text of ``/proc/net/fib_trie``. Pure."""
    lines = iter(fib_trie.splitlines())
    return any(line.strip().endswith(f"-- {address}") and "host LOCAL" in next(lines, "") for line in lines)
