"""Whether a replica holds its service address, from what the kernel tells."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from sipmediadeploy.node.service_address import changes

OURS, OTHER = IPv4Address("172.30.5.4"), IPv4Address("172.30.5.2")
NEW, DELETED, NEW_LINK = 20, 21, 16


def message(kind: int, address: IPv4Address, *, label: bytes = b"eth0\0") -> bytes:
    """An rtnetlink message of that kind: IFA_ADDRESS, IFA_LOCAL and IFA_LABEL, each padded to four bytes."""
    attributes = b"".join(
        struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
        for number, value in ((1, address.packed), (2, address.packed), (3, label))
    )
    body = struct.pack("=BBBBI", 2, 24, 0, 0, 7) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_an_address_that_comes_and_goes_is_told() -> None:
    assert list(changes(message(NEW, OURS), OURS)) == [True]
    assert list(changes(message(DELETED, OURS), OURS)) == [False]


def test_several_messages_in_one_read_are_told_in_order() -> None:
    read = message(NEW, OURS) + message(NEW, OTHER) + message(DELETED, OURS, label=b"eth0:1\0")
    assert list(changes(read, OURS)) == [True, False]


def test_other_addresses_and_other_messages_are_nothing() -> None:
    assert list(changes(message(NEW, OTHER) + message(NEW_LINK, OURS), OURS)) == []


def test_what_is_cut_off_or_malformed_is_nothing_and_ends() -> None:
    whole = message(NEW, OURS)
    assert list(changes(b"", OURS)) == []
    assert list(changes(struct.pack("=IHHII", 0, NEW, 0, 0, 0) * 3, OURS)) == []
    for end in range(len(whole)):
        assert list(changes(whole[:end], OURS)) in ([], [True])
    no_length = struct.pack("=IHHII", 32, NEW, 0, 0, 0) + struct.pack("=BBBBI", 2, 24, 0, 0, 7) + bytes(8)
    assert list(changes(no_length, OURS)) == []
