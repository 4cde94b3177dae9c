"""Whether this replica holds its service address, as the kernel tells it (rtnetlink(7)).

Nothing is asked in between: the kernel sends a message for each address that comes or goes, so that a
replica that held the address for a millisecond is seen, too.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

_FIB_TRIE = Path("/proc/net/fib_trie")
_RTMGRP_IPV4_IFADDR = 0x10
_NEW, _DELETED = 20, 21
"""RTM_NEWADDR and RTM_DELADDR."""
_IFA_LOCAL = 2
_HEADER, _IFADDRMSG, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
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
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.setblocking(False)
            sock.bind((0, _RTMGRP_IPV4_IFADDR))
            while True:
                messages = b""
                try:
                    async with asyncio.timeout(_AGAIN_S):
                        messages = await loop.sock_recv(sock, 65536)
                except (TimeoutError, OSError):  # ENOBUFS: there were too many
                    pass
                before = self.held
                came = sum(is_new for is_new in changes(messages, self._address))
                self.held = self._read()
                times = came or int(self.held and not before)
                self.taken += times
                self.taken_at.extend([loop.time()] * times)
                if came or self.held != before:
                    changed()

    def _read(self) -> bool:
        return is_local(self._address, self._fib_trie.read_text(encoding="ascii"))


def changes(messages: bytes, address: IPv4Address) -> Iterator[bool]:
    """What rtnetlink messages say of ``address``, in order: True, it came; False, it went. Pure."""
    at = 0
    while at + _HEADER.size <= len(messages):
        length, kind, *_ = _HEADER.unpack_from(messages, at)
        if length < _HEADER.size:
            return
        body = messages[at + _HEADER.size : at + length]
        if kind in (_NEW, _DELETED) and _local_of(body) == address.packed:
            yield kind == _NEW
        at += length + -length % 4


def _local_of(body: bytes) -> bytes:
    at = _IFADDRMSG.size
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        if kind == _IFA_LOCAL:
            return body[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
    return b""


def is_local(address: IPv4Address, fib_trie: str) -> bool:
    """Whether ``address`` is local by the text of ``/proc/net/fib_trie``. Pure."""
    lines = iter(fib_trie.splitlines())
    return any(line.strip().endswith(f"-- {address}") and "host LOCAL" in next(lines, "") for line in lines)
