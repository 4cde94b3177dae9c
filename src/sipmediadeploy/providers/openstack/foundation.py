"""What a stack stands on: its network and router, security groups, service addresses, the lease's network.

It is said here once, as plain data. Terraform makes it from ``smd config --json``; ``ensure.py`` makes the
same through the API.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

from sipmediadeploy.protocol.replica import (
    AGENT_PORT,
    GATEWAY_SIP_PORT,
    TURN_PORT,
    ConferenceDemoService,
    CoturnService,
)
from sipmediadeploy.protocol.scaler import API_PORT, SCALER_PORT
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.service_addresses import ROLES
from sipmediadeploy.stack import GATEWAY_SIDE_SIP_PORT, MOST_CALLS, OpenStack, Role, Stack

LEASE_RANGE = IPv4Network("192.0.2.0/29")
"""Nothing is ever sent there (RFC 5737); it has room for the record and the claim."""
FIRST_GIVEN = max(addresses.FIRST_HOST[role] + addresses.SLOTS[role] for role in Role)
"""Last byte of the first address that the cloud itself may give; those before are the slots'."""
OWN, LEASE, EXTERNAL = "own", "lease", "external"
_VRRP = "112"
_SSH_PORT = 22
_WORLD = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class GivenNetwork:
    """A network that is there already; with neither name nor id it is the only external one."""

    name: str | None
    id: str | None
    external: bool | None
    """None: whether it is or not."""


@dataclass(frozen=True, slots=True)
class GivenSubnet:
    """A subnet that is there already, in the given ``network``."""

    network: str
    cidr: str


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the stack."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Subnet:
    """The one subnet of ``network``; the cloud itself gives addresses from ``first`` to ``last`` only."""

    name: str
    network: str
    cidr: str
    gateway: str | None
    dhcp: bool
    first: str
    last: str
    dns_servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Router:
    """Between ``external_network`` and ``subnet``."""

    name: str
    description: str
    external_network: str
    subnet: str


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """The security group of a pool."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a security group lets in (IPv4): ``protocol``, ports (None: it has none) and ``source``."""

    security_group: str
    description: str
    protocol: str
    first_port: int | None
    last_port: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Port:
    """The port of a pool's service address. No replica has it: one answers for it, by VRRP."""

    name: str
    description: str
    network: str
    subnet: str
    address: str
    security_group: str


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """The public address of a pool, mapped to ``port``; None: scalers map it to a replica."""

    description: str
    external_network: str
    port: str | None


@dataclass(frozen=True, slots=True)
class Foundation:
    """Each kind by keys that stay; what refers to something else names its key.

    ``own``, ``lease`` and ``external`` are networks, roles everything that a pool has one of.
    """

    given_networks: dict[str, GivenNetwork] = field(default_factory=dict)
    given_subnets: dict[str, GivenSubnet] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    subnets: dict[str, Subnet] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    security_groups: dict[str, SecurityGroup] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    floating_ips: dict[str, FloatingIp] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def own_range(stack: Stack) -> IPv4Network:
    """The range of the stack's own network, as the stack file has it.

    Raises:
        ProviderError: it names a network, and not its range.
    """
    if stack.network.subnet is None:
        named = (stack.openstack or OpenStack()).network
        raise ProviderError(f"network.subnet is missing: the range of openstack.network ({named}), a /24")
    return stack.network.subnet


def foundation(stack: Stack, subnet: IPv4Network) -> Foundation:
    """What the stack stands on; ``subnet`` is the /24 of its own network. Pure."""
    settings, name = stack.openstack or OpenStack(), f"smd-{stack.name}"
    roles = roles_of(stack)
    made = Foundation(
        given_networks={EXTERNAL: _given(settings.external_network, external=True)},
        networks={LEASE: Network(network_name(stack.name), f"lease of the scalers of stack {stack.name}")},
        subnets={LEASE: _subnet(LEASE, network_name(stack.name), LEASE_RANGE)},
        security_groups={
            str(role): SecurityGroup(marks.pool_name(stack.name, role), f"pool {role} of stack {stack.name}")
            for role in roles
        },
        rules={key(rule): rule for role in roles for rule in rules(stack, role, subnet)},
    )
    if settings.network is not None:
        made.given_networks[OWN] = _given(settings.network, external=None)
        made.given_subnets[OWN] = GivenSubnet(OWN, str(subnet))
    else:
        made.networks[OWN] = Network(name, f"stack {stack.name}")
        made.subnets[OWN] = _subnet(OWN, name, subnet, [str(server) for server in settings.dns_servers])
        made.routers[OWN] = Router(name, f"stack {stack.name}", EXTERNAL, OWN)
    for role in ROLES:
        mark, address = marks.service_mark(stack.name, role), addresses.service_address(subnet, role)
        with_port = address is not None and settings.service_addresses == "vrrp"
        if with_port:
            port = Port(marks.pool_name(stack.name, role), mark, OWN, OWN, str(address), str(role))
            made.ports[str(role)] = port
        made.floating_ips[str(role)] = FloatingIp(mark, EXTERNAL, str(role) if with_port else None)
    return made


def roles_of(stack: Stack) -> list[Role]:
    """The roles that the stack has pools of. Pure."""
    return [role for role in Role if role is not Role.CONFERENCE_DEMO or stack.demo]


def rules(stack: Stack, role: Role, subnet: IPv4Network) -> list[Rule]:
    """What a pool's security group lets in, the least that it needs. Pure."""
    settings, inside = stack.openstack or OpenStack(), str(subnet)
    found: list[Rule] = []

    def let_in(what: str, protocols: Sequence[str], first: int | None, last: int | None, source: str) -> None:
        found.extend(Rule(str(role), what, protocol, first, last, source) for protocol in protocols)

    let_in("agent, by scalers", ["tcp"], AGENT_PORT, AGENT_PORT, inside)
    let_in("ping", ["icmp"], None, None, inside)
    if role in ROLES and settings.service_addresses == "vrrp":
        let_in("VRRP", [_VRRP], None, None, inside)
    match role:
        case Role.KAMAILIO:
            let_in("SIP of terminals", ["udp", "tcp"], stack.sip.port, stack.sip.port, _WORLD)
            port = GATEWAY_SIDE_SIP_PORT
            let_in("SIP of gateways", ["udp", "tcp"], port, port, inside)
        case Role.COTURN:
            first, last = CoturnService.model_fields["relay_ports"].default
            let_in("TURN", ["udp", "tcp"], TURN_PORT, TURN_PORT, _WORLD)
            let_in("relayed media", ["udp"], first, last, _WORLD)
        case Role.GATEWAY:
            # As many as a gateway may ever be told to take, so that more calls need no other rule.
            last = addresses.RTP_BASE + addresses.PORTS_PER_CALL * MOST_CALLS - 1
            let_in("SIP of Kamailio", ["udp", "tcp"], GATEWAY_SIP_PORT, GATEWAY_SIP_PORT, inside)
            let_in("media of terminals", ["udp"], addresses.RTP_BASE, last, _WORLD)
        case Role.CONFERENCE_DEMO:
            demo = ConferenceDemoService.model_fields
            page, janus, (first, last) = (demo[k].default for k in ("page_port", "janus_port", "rtp_ports"))
            let_in("page", ["tcp"], page, page, _WORLD)
            let_in("conference, by gateways", ["tcp"], janus, janus, inside)
            let_in("media of browsers", ["udp"], first, last, _WORLD)
        case Role.SCALER:
            let_in("scalers, by each other", ["tcp"], SCALER_PORT, SCALER_PORT, inside)
            for source in settings.api_from:
                let_in("API, by operators", ["tcp"], API_PORT, API_PORT, str(source))
    for source in settings.ssh_from:
        let_in("SSH, by operators", ["tcp"], _SSH_PORT, _SSH_PORT, str(source))
    if settings.ssh_from and subnet not in settings.ssh_from:
        # Most replicas have no public address: operators come through one that has.
        let_in("SSH, through another replica", ["tcp"], _SSH_PORT, _SSH_PORT, inside)
    return found


def key(rule: Rule) -> str:
    """What a rule is known by; two rules with one key would be the same to the cloud."""
    ports = dict.fromkeys(str(port) for port in (rule.first_port, rule.last_port) if port is not None)
    return " ".join(
        [rule.security_group, rule.protocol, *(["-".join(ports)] if ports else []), "from", rule.source]
    )


def _given(name_or_id: str | None, *, external: bool | None) -> GivenNetwork:
    try:
        id_ = str(UUID(name_or_id)) if name_or_id is not None else None
    except ValueError:
        id_ = None
    return GivenNetwork(name_or_id if id_ is None else None, id_, external)


def _subnet(network: str, name: str, range_: IPv4Network, dns_servers: Sequence[str] = ()) -> Subnet:
    """The own network's slots have their addresses for good: the cloud gives only those behind them."""
    own = network == OWN
    return Subnet(
        name,
        network,
        str(range_),
        gateway=str(addresses.host_address(range_)) if own else None,
        dhcp=own,
        first=str(range_[FIRST_GIVEN if own else 1]),
        last=str(range_[-2]),
        dns_servers=tuple(dns_servers),
    )
