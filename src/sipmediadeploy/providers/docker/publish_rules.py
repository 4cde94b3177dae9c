"""How the host's ports are mapped to a stack: decided here, as nftables text, and nowhere else. Pure.

Every place has its ports for good (see ``addresses``), so the map never changes while the stack runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from sipmediadeploy.protocol.replica import TURN_PORT, ConferenceDemoService, CoturnService
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.stack import Role, Stack

_EPHEMERAL_FROM = 32_768
"""First port that a host gives to its own programs by itself (ip_local_port_range); those pass by."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Ports of the published address that belong to one address of the stack, number for number."""

    what: str
    protocols: tuple[str, ...]
    first: int
    last: int
    target: IPv4Address

    @property
    def ports(self) -> str:
        """The ports as nft writes them."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket of this host that waits for traffic."""

    protocol: str
    address: IPv4Address | None
    """None: every address."""
    port: int


def published_gateway_slots(stack: Stack) -> range:
    """The gateway slots whose ports are mapped: ``max``, and as many for replacements of silent ones."""
    slots = min(addresses.SLOTS[Role.GATEWAY], 2 * stack.pools.gateway.max + 2)
    while slots > stack.pools.gateway.max:
        try:
            addresses.rtp_ports(stack, slots - 1)
        except ValueError:
            slots -= 1
        else:
            break
    return range(slots)


def forwards(stack: Stack, subnet: IPv4Network) -> list[Forward]:
    """All that is mapped for ``stack``.

    Raises:
        ProviderError: there are too few ports for so many gateways and calls.
    """
    both = ("udp", "tcp")
    kamailio = addresses.service_address(subnet, Role.KAMAILIO)
    coturn = addresses.service_address(subnet, Role.COTURN)
    if kamailio is None or coturn is None:
        raise ProviderError("the pools of kamailio and coturn have no service address")
    relay: tuple[int, int] = CoturnService.model_fields["relay_ports"].default
    mapped = [
        Forward("SIP", both, stack.sip.port, stack.sip.port, kamailio),
        Forward("TURN", both, TURN_PORT, TURN_PORT, coturn),
        Forward("TURN relay", ("udp",), *relay, coturn),
    ]
    for slot in published_gateway_slots(stack):
        target = addresses.slot_address(subnet, Role.GATEWAY, slot)
        try:
            ports = addresses.rtp_ports(stack, slot)
        except ValueError as e:
            hint = "lower pools.gateway.max or pools.gateway.calls"
            raise ProviderError(f"publish: {e}", hint=hint) from None
        mapped.append(Forward(f"RTP of gateway slot {slot}", ("udp",), *ports, target))
    if stack.demo:
        demo = addresses.slot_address(subnet, Role.CONFERENCE_DEMO, 0)
        rtp: tuple[int, int] = ConferenceDemoService.model_fields["rtp_ports"].default
        mapped.append(Forward("conference page", ("tcp",), 443, 443, demo))
        mapped.append(Forward("RTP of the demo conference", ("udp",), *rtp, demo))
    _refuse_overlaps(mapped)
    return mapped


def table_name(stack: str) -> str:
    """The stack's own nftables table, of family ip."""
    return f"smd-{stack}"


def ruleset(stack: Stack, subnet: IPv4Network, bridge: str) -> str:
    """The nft text that replaces the stack's table in one transaction.

    Traffic to the published address comes from other hosts (prerouting), from this host (output), and from
    the stack itself (prerouting; it must then seem to come from the published address, or the reply would
    take the short way and be foreign to the asker). What a mapped port sends by itself leaves with the
    published address and the same port, because that is what SDP, ICE and Via say.

    Raises:
        ProviderError: the stack is not published, or its ports do not fit.
    """
    if stack.publish is None:
        raise ProviderError(f"stack {stack.name} has no publish address")
    mapped = forwards(stack, subnet)
    table, host = table_name(stack.name), stack.publish
    lines = [f"table ip {table}", f"delete table ip {table}", f"table ip {table} {{", "\tchain publish {"]
    for one in mapped:
        lines += [f"\t\t{protocol} dport {one.ports} dnat to {one.target}" for protocol in one.protocols]
    lines += [
        "\t}",
        "\tchain prerouting {",
        "\t\ttype nat hook prerouting priority -110; policy accept;",
        f"\t\tip daddr {host} jump publish",
        "\t}",
        "\tchain output {",
        "\t\ttype nat hook output priority -110; policy accept;",
        f"\t\tip daddr {host} jump publish",
        "\t}",
        "\tchain postrouting {",
        "\t\ttype nat hook postrouting priority 90; policy accept;",
        f'\t\toifname "{bridge}" ip saddr {subnet} ct status dnat snat to {host}',
    ]
    for one in mapped:
        if "udp" in one.protocols:
            lines.append(
                f'\t\toifname != "{bridge}" ip saddr {one.target} udp sport {one.ports} snat to {host}'
            )
    return "\n".join([*lines, "\t}", "}", ""])


def refuse_conflicts(
    publish: IPv4Address, mapped: Iterable[Forward], own: set[IPv4Address], listening: Iterable[Listener]
) -> None:
    """Check that ``publish`` is an address of this host and that none of its mapped ports is taken.

    Raises:
        ProviderError: it is not, or a program of this host listens on one of them.
    """
    if publish.is_loopback:
        raise ProviderError(f"publish: {publish} is a loopback address, which no other host can reach")
    if publish not in own:
        others = ", ".join(str(address) for address in sorted(own) if not address.is_loopback)
        hint = f"it has {others or 'none'}"
        raise ProviderError(f"publish: {publish} is not an address of this host", hint=hint)
    taken = [one for one in listening if one.address in (None, publish)]
    for forward in mapped:
        for one in taken:
            chosen = forward.first == forward.last or one.port < _EPHEMERAL_FROM
            if one.protocol in forward.protocols and forward.first <= one.port <= forward.last and chosen:
                raise ProviderError(
                    f"publish: a program on this host already uses {publish}:{one.port}/{one.protocol}, "
                    f"which is needed for {forward.what}",
                    hint="stop it, or publish on another address",
                )


def parse_listeners(protocol: str, text: str) -> list[Listener]:
    """The waiting sockets in ``/proc/net/{tcp,udp,tcp6,udp6}`` (addresses are in the host's byte order).

    Of IPv6 sockets, those for every address are meant: they take IPv4 traffic too.
    """
    waiting = "0A" if protocol == "tcp" else "07"
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        if fields[3] != waiting:
            continue
        if len(address) == 8:
            ip = IPv4Address(int.from_bytes(bytes.fromhex(address), "little"))
            found.append(Listener(protocol, None if ip.is_unspecified else ip, int(port, 16)))
        elif int(address, 16) == 0:
            found.append(Listener(protocol, None, int(port, 16)))
    return found


def _refuse_overlaps(mapped: list[Forward]) -> None:
    for index, one in enumerate(mapped):
        for other in mapped[:index]:
            same = set(one.protocols) & set(other.protocols)
            if same and one.first <= other.last and other.first <= one.last:
                raise ProviderError(f"publish: ports {one.ports} of {one.what} are those of {other.what} too")
