"""Notices at once when the TURN server's service address has moved to another machine.

The server that answers then knows no allocation of this gateway's, and no packet says so: libnice needs
seconds to find out. But the kernel learns the new machine's link-layer address as soon as that announces
itself (gratuitous ARP, RFC 5227), and tells of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from ipaddress import IPv4Address
from pathlib import Path

from sipmediadeploy import rtnetlink
from sipmediadeploy.protocol.replica import ConferenceAccess

_NDMSG = 12
"""The length of ``struct ndmsg``."""
_NDA_DST, _NDA_LLADDR = 1, 2
_AGAIN_S = 3600.0
_ARP = Path("/proc/net/arp")


class RelayWatch:
    """Watches one address from when it is first asked for; it must be on a network of this machine's."""

    def __init__(self, address: IPv4Address) -> None:
        self._address = address
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    async def moved(self) -> None:
        """Wait until the address moves the next time."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name=f"relay-{self._address}")
        await self._moved.wait()

    async def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _watch(self) -> None:
        known = link_now(self._address, _read(_ARP))
        async with aclosing(rtnetlink.news(rtnetlink.NEIGHBOURS, _AGAIN_S)) as news:
            async for told in news:
                for link in links(told, self._address):
                    if known is not None and link != known:
                        self._moved.set()
                        self._moved = asyncio.Event()
                    known = link


def links(told: bytes, address: IPv4Address) -> Iterator[bytes]:
    """The link-layer addresses that rtnetlink messages give for ``address``, in order. Pure."""
    for kind, body in rtnetlink.messages(told):
        if kind == rtnetlink.NEW_NEIGHBOUR:
            found = rtnetlink.attributes(body, _NDMSG)
            if found.get(_NDA_DST) == address.packed and found.get(_NDA_LLADDR):
                yield found[_NDA_LLADDR]


def link_now(address: IPv4Address, arp: str) -> bytes | None:
    """The link-layer address of ``address`` by the text of ``/proc/net/arp``; None: it is not known. Pure."""
    for fields in (line.split() for line in arp.splitlines()[1:]):
        if len(fields) > 3 and fields[0] == str(address) and fields[3].strip("0:"):
            return bytes.fromhex(fields[3].replace(":", ""))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:  # no such file: its first message then tells
        return ""


def relay_watch(access: ConferenceAccess) -> RelayWatch | None:
    """The watch for conferences that are only reached by relay; None: others may not even use it."""
    server = access.turn_server
    return RelayWatch(server.address) if server is not None and access.turn == "always" else None
