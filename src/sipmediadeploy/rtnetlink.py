"""What the kernel tells of addresses and neighbours as it happens (netlink(7), rtnetlink(7))."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Iterator

NEIGHBOURS, IPV4_ADDRESSES = 0x4, 0x10
"""Groups: RTMGRP_NEIGH and RTMGRP_IPV4_IFADDR."""
NEW_ADDRESS, DELETED_ADDRESS, NEW_NEIGHBOUR = 20, 21, 28
"""Kinds of messages: RTM_NEWADDR, RTM_DELADDR and RTM_NEWNEIGH."""

_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_MOST = 65536


async def news(group: int, again_s: float) -> AsyncGenerator[bytes, None]:
    """Messages of ``group`` for ever; ``b""`` after each ``again_s`` without any, and when some were lost.

    Raises:
        OSError: they can't be had.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.setblocking(False)
        sock.bind((0, group))
        while True:
            told = b""
            try:
                async with asyncio.timeout(again_s):
                    told = await loop.sock_recv(sock, _MOST)
            except (TimeoutError, OSError):  # ENOBUFS: there were too many
                pass
            yield told


def messages(told: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind and the body of each message; what is cut off or malformed ends them. Pure."""
    at = 0
    while at + _HEADER.size <= len(told):
        length, kind, *_ = _HEADER.unpack_from(told, at)
        if length < _HEADER.size:
            return
        yield kind, told[at + _HEADER.size : at + length]
        at += length + -length % 4


def attributes(body: bytes, start: int) -> dict[int, bytes]:
    """The attributes behind the first ``start`` bytes of a body, by number; the last of each. Pure."""
    found: dict[int, bytes] = {}
    at = start
    while at + _ATTRIBUTE.size <= len(body):
        length, number = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[number] = body[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
    return found
