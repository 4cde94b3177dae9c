"""A TURN server's address that moves is known by its link-layer address."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from sipmediadeploy.gateway.conference.relay_watch import link_now, links

TURN, OTHER = IPv4Address("172.30.5.3"), IPv4Address("172.30.5.1")
FIRST, SECOND = bytes.fromhex("0242ac1e0520"), bytes.fromhex("0242ac1e0521")
NEW_NEIGHBOUR, DELETED_NEIGHBOUR = 28, 29
ARP = """\
IP address       HW type     Flags       HW address            Mask     Device
172.30.5.1       0x1         0x2         02:42:67:59:2f:0e     *        eth0
172.30.5.3       0x1         0x2         02:42:ac:1e:05:20     *        eth0
172.30.5.9       0x1         0x0         00:00:00:00:00:00     *        eth0
"""


def message(kind: int, address: IPv4Address, link: bytes | None) -> bytes:
    """An rtnetlink message of that kind: NDA_DST and, if it is known, NDA_LLADDR."""
    found = [(1, address.packed), *([(2, link)] if link else [])]
    attributes = b"".join(
        struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4) for number, value in found
    )
    body = struct.pack("=BBHiHBB", 2, 0, 0, 7, 2, 0, 1) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_each_link_layer_address_is_told_in_order() -> None:
    told = message(NEW_NEIGHBOUR, TURN, FIRST) + message(NEW_NEIGHBOUR, OTHER, FIRST)
    assert list(links(told + message(NEW_NEIGHBOUR, TURN, SECOND), TURN)) == [FIRST, SECOND]


def test_one_that_is_not_known_or_goes_is_nothing() -> None:
    assert list(links(message(NEW_NEIGHBOUR, TURN, None), TURN)) == []
    assert list(links(message(DELETED_NEIGHBOUR, TURN, FIRST), TURN)) == []
    assert list(links(b"", TURN)) == []


def test_what_is_known_from_the_start_is_read() -> None:
    assert link_now(TURN, ARP) == FIRST
    assert link_now(IPv4Address("172.30.5.9"), ARP) is None
    assert link_now(IPv4Address("172.30.5.5"), ARP) is None
    assert link_now(TURN, "") is None
