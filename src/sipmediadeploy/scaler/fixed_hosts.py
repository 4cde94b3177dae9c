"""Makes the documents of a fleet that nobody scales: hosts that are there for good. Pure.

There is no scaler: Kamailio's list of gateways is in its document, and it finds out by itself which of
them are full or silent. Service addresses move by VRRP, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from sipmediadeploy.protocol.agent import Gateway
from sipmediadeploy.protocol.replica import (
    GATEWAY_SIP_PORT,
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
    Service,
)
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Role, Stack

_WITH_SERVICE_ADDRESS = (Role.KAMAILIO, Role.COTURN)


class FleetError(ValueError):
    """The fleet can't be what was asked. The message says what is wrong, and what to do."""


class Host(BaseModel):
    """One host: the role that it has, and its address in the fleet's network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    address: IPv4Address
    public_address: IPv4Address | None = None
    """Of a gateway: the address at which terminals reach it, when that is another one."""


class Fleet(BaseModel):
    """All hosts, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: IPv4Network
    service_addresses: dict[Role, IPv4Address]
    """Of Kamailio and Coturn; no host has them."""
    public_addresses: dict[Role, IPv4Address] = {}
    """What the world calls them by, when that is another address (a 1:1 NAT)."""
    hosts: dict[str, Host]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        own = [host.address for host in self.hosts.values()]
        for name, host in self.hosts.items():
            if own.count(host.address) > 1:
                raise ValueError(f"{name}: another host has the address {host.address}, too")
            if host.address not in self.network:
                raise ValueError(f"{name}: {host.address} is not in the fleet's network {self.network}")
            if host.role in _WITH_SERVICE_ADDRESS and host.role not in self.service_addresses:
                raise ValueError(f"{name}: service_addresses has none for {host.role}")
        for role, address in self.service_addresses.items():
            if role not in _WITH_SERVICE_ADDRESS:
                raise ValueError(f"service_addresses: {role} has none; only kamailio and coturn have")
            if address in own or address not in self.network:
                raise ValueError(f"service_addresses: {role}: {address} must be free, and in {self.network}")
        return self

    def of(self, role: Role) -> list[str]:
        """The names of the hosts of ``role``, in the order in which they were given: their slots."""
        return [name for name, host in self.hosts.items() if host.role is role]


def host_document(stack: Stack, secrets: Secrets, fleet: Fleet, name: str) -> ReplicaDocument:
    """The document of the host ``name``.

    Raises:
        FleetError: there is no such host, it is a scaler, or the fleet lacks what it needs.
    """
    host = fleet.hosts.get(name)
    if host is None:
        raise FleetError(f"there is no host '{name}'; there are: {', '.join(fleet.hosts) or 'none'}")
    if host.role is Role.SCALER:
        raise FleetError(f"{name}: hosts that are there for good have no scaler: there is nothing to scale")
    slot = fleet.of(host.role).index(name)
    if slot >= addresses.SLOTS[host.role]:
        raise FleetError(
            f"{name}: a fleet has at most {addresses.SLOTS[host.role]} hosts of role {host.role}"
        )
    planned = make_document(stack, _plan_network(fleet.network), secrets, "", host.role, slot, name)
    vrrp = planned.vrrp
    if vrrp is not None:
        others = (fleet.hosts[other].address for other in fleet.of(host.role) if other != name)
        vrrp = vrrp.model_copy(
            update={
                "service_address": fleet.service_addresses[host.role],
                "peers": tuple(others),
                "prefix_length": fleet.network.prefixlen,
            }
        )
    changed = {
        "address": host.address,
        "vrrp": vrrp,
        "service": _service(planned.service, stack, fleet, host),
    }
    return ReplicaDocument.model_validate(planned.model_copy(update=changed).model_dump())


def _service(service: Service, stack: Stack, fleet: Fleet, host: Host) -> Service:
    """The planned service with the fleet's addresses."""
    if isinstance(service, KamailioService):
        return service.model_copy(
            update={
                "service_address": fleet.service_addresses[Role.KAMAILIO],
                "advertise": fleet.public_addresses.get(Role.KAMAILIO),
                "network": fleet.network,
                "allow": (*stack.sip.allow, fleet.network) if stack.sip.allow else (),
                "gateways": _gateways(stack, fleet),
            }
        )
    if isinstance(service, CoturnService):
        return service.model_copy(
            update={
                "service_address": fleet.service_addresses[Role.COTURN],
                "external_ip": None if stack.demo else fleet.public_addresses.get(Role.COTURN),
                "allowed_peers": (fleet.network,) if stack.demo else (),
            }
        )
    if isinstance(service, GatewayService):
        conference = service.conference.model_copy(update=_conference(service, stack, fleet))
        media = host.public_address or host.address
        return service.model_copy(update={"media_address": media, "conference": conference})
    return service


def _gateways(stack: Stack, fleet: Fleet) -> tuple[Gateway, ...]:
    calls = stack.pools.gateway.calls
    return tuple(
        Gateway(name=name, address=fleet.hosts[name].address, port=GATEWAY_SIP_PORT, free=calls)
        for name in fleet.of(Role.GATEWAY)
    )


def _conference(service: GatewayService, stack: Stack, fleet: Fleet) -> Mapping[str, object]:
    changed: dict[str, object] = {}
    if stack.demo:
        demo = fleet.of(Role.CONFERENCE_DEMO)
        if not demo:
            raise FleetError(
                "the stack file names no conference.url, and no host has the role conference-demo: add either"
            )
        changed["url"] = f"ws://{fleet.hosts[demo[0]].address}:8188/"
    turn = service.conference.turn_server
    if turn is not None:
        relay = fleet.service_addresses.get(Role.COTURN) if fleet.of(Role.COTURN) else None
        if relay is None and stack.turn == "always":
            raise FleetError("the stack file says 'turn: always', and no host has the role coturn")
        changed["turn_server"] = None if relay is None else turn.model_copy(update={"address": relay})
    return changed


def _plan_network(network: IPv4Network) -> IPv4Network:
    """A network in which the plan has room; its addresses are all replaced."""
    return IPv4Network((network.network_address, 24), strict=False)
