"""The address plan of a stack's /24 bridge network: every slot has its address and ports for good.

Fixed places mean that VRRP peers are known before they exist, and that the published ports are mapped once
and never changed (a NAT entry that is moved strands every caller that keeps its 5-tuple).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from sipmediadeploy.stack import Role, Stack

FIRST_HOST: dict[Role, int] = {
    Role.CONFERENCE_DEMO: 9,
    Role.KAMAILIO: 16,
    Role.COTURN: 32,
    Role.SCALER: 48,
    Role.GATEWAY: 64,
}
"""Last byte of the address of slot 0 of each role."""

SLOTS: dict[Role, int] = {
    Role.CONFERENCE_DEMO: 1,
    Role.KAMAILIO: 16,
    Role.COTURN: 16,
    Role.SCALER: 16,
    Role.GATEWAY: 176,
}
"""How many slots each role has; more than a pool may have, so that a replacement can start beside the old."""

CLIENT_HOSTS = range(242, 254)
"""Last bytes left for test clients (``smd call``)."""

_SERVICE_HOST: dict[Role, int] = {Role.KAMAILIO: 2, Role.COTURN: 3}
RTP_BASE = 20_000
"""First RTP port of gateway slot 0."""
RTP_END = 40_000
"""The gateways' RTP ports end before; the demo conference's begin there."""
PORTS_PER_CALL = 4
"""RTP and RTCP of one audio and one video stream."""


def host_address(subnet: IPv4Network) -> IPv4Address:
    """The bridge's own address, which is the host as seen from the stack."""
    return subnet[1]


def service_address(subnet: IPv4Network, role: Role) -> IPv4Address | None:
    """The service address of the role's pool; None for a role that has none."""
    host = _SERVICE_HOST.get(role)
    return subnet[host] if host is not None else None


def slot_address(subnet: IPv4Network, role: Role, slot: int) -> IPv4Address:
    """The address of one slot.

    Raises:
        ValueError: there is no such slot.
    """
    if not 0 <= slot < SLOTS[role]:
        raise ValueError(f"{role} has slots 0 to {SLOTS[role] - 1}, not {slot}")
    return subnet[FIRST_HOST[role] + slot]


def rtp_ports(stack: Stack, slot: int) -> tuple[int, int]:
    """First and last RTP port of a gateway slot; ranges of different slots never overlap.

    Raises:
        ValueError: the slot's range does not fit below :data:`RTP_END`.
    """
    size = PORTS_PER_CALL * stack.pools.gateway.calls
    first = RTP_BASE + slot * size
    if first + size > RTP_END:
        raise ValueError(f"gateway slot {slot} with {stack.pools.gateway.calls} calls has no RTP ports left")
    return first, first + size - 1
