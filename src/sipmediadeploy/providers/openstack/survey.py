"""What was read of a cloud before a deployment, as plain facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.findings import Read
from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Body
from sipmediadeploy.providers.openstack.lookup import Image
from sipmediadeploy.stack import Role


@dataclass(frozen=True, slots=True)
class Nets:
    """The networks of one name and their IPv4 subnets, as Neutron shows them."""

    networks: int
    subnets: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """The security groups of one name, and what comes in by the first."""

    groups: int
    rules: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True)
class Owned:
    """What the stack has already: it counts as its own where quotas are compared."""

    servers: tuple[Body, ...] = ()
    server_groups: int = 0
    ports: int = 0
    floating_ips: tuple[Body, ...] = ()
    foundation: Mapping[str, int] = field(default_factory=dict)
    """By kind, as quotas name them: network, subnet, router."""

    def public_address(self, stack: str, role: Role) -> IPv4Address | None:
        """The floating IP of a pool, if it is there."""
        mark = marks.service_mark(stack, role)
        found = [one for one in self.floating_ips if one.get("description") == mark]
        return IPv4Address(found[0]["floating_ip_address"]) if found else None


@dataclass(frozen=True, slots=True)
class External:
    """The network that public addresses come from."""

    id: str | None
    """None: the cloud has none."""
    free: int | None = None
    """Addresses that are left; None: the cloud tells administrators only."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was read; an error instead of what could not be."""

    project: str
    ahead_s: Read[float | None]
    """By how much the cloud's clock is ahead of this machine's; None: it does not say."""
    limits: Read[Body]
    """Nova's absolute limits."""
    quotas: Read[Body]
    """Neutron's, by kind: limit, used."""
    volumes: Read[Body] | None
    """Cinder's absolute limits; None: no volumes are used."""
    image_list: Read[bool]
    extensions: Read[frozenset[str]]
    images: Mapping[Role, Read[Image]]
    flavors: Mapping[Role, Read[Body]]
    network: Read[Nets]
    lease: Read[Nets]
    groups: Mapping[Role, Read[Group]]
    external: Read[External]
    key_pair: Read[bool]
    """Whether the wanted one is there; true as well where none is wanted."""
    zones: Read[Mapping[str, bool]]
    """By name: whether it is available."""
    address_pairs: Read[bool]
    """Whether a port could be made with one; false: it was not tried."""
    owned: Read[Owned]

    @property
    def subnet(self) -> IPv4Network | None:
        """The range of the stack's own network; None: there is not one and only one."""
        if isinstance(self.network, ProviderError) or len(self.network.subnets) != 1:
            return None
        return IPv4Network(self.network.subnets[0]["cidr"])
