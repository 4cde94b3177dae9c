"""Reads what a stack needs of a cloud, side by side and whatever fails: the facts of ``smd doctor``.

What follows from them is decided in ``preconditions`` and ``quotas``. Nothing is changed but for one port,
which is made and removed at once: whether a project may have address pairs can be seen in no other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar
from urllib.parse import quote

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.addresses import service_address
from sipmediadeploy.providers.findings import Need, Read
from sipmediadeploy.providers.openstack import leftovers, marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud, in_thread
from sipmediadeploy.providers.openstack.errors import Missing, NotAllowed
from sipmediadeploy.providers.openstack.foundation import ingress_rules, named
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.providers.openstack.service_addresses import ROLES
from sipmediadeploy.stack import OpenStack, Role, Stack

REQUEST_TIMEOUT_S = 8.0
_LIMIT_S = 20.0
"""For each thing that is looked at; all are looked at side by side."""

T = TypeVar("T")


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
    images: Mapping[Role, Read[str]]
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


async def take(cloud: Cloud, stack: Stack, version: str, needs: list[Need]) -> Survey | ProviderError:
    """Look at everything; an error if the credentials are not accepted, for then nothing else can be seen.

    ``version``: of the images that replicas would be made from. The time limits of single requests are
    those of ``cloud``.
    """
    settings = stack.openstack or OpenStack()
    lookup = Lookup(cloud, stack.name, settings, version)
    try:
        project = await in_thread("the credentials", _LIMIT_S, lambda: cloud.project)
    except ProviderError as e:
        return e
    look = _Look(cloud, lookup, stack, settings, project)
    async with asyncio.TaskGroup() as tasks:

        def start(call: Callable[[], T]) -> asyncio.Task[Read[T]]:
            return tasks.create_task(_read(call))

        ahead_s, owned, address_pairs = start(look.ahead_s), start(look.owned), start(look.address_pairs)
        limits, quotas, image_list = start(look.limits), start(look.quotas), start(look.image_list)
        volumes = start(look.volumes) if settings.volume_gib is not None else None
        extensions, external = start(look.extensions), start(look.external)
        network, lease = start(look.network), start(look.lease)
        key_pair, zones = start(look.key_pair), start(look.zones)
        images = {need.role: start(partial(lookup.image, need.role)) for need in needs}
        flavors = {need.role: start(partial(look.flavor, need)) for need in needs}
        groups = {role: start(partial(look.group, role)) for role in Role}
    return Survey(
        project=project,
        ahead_s=ahead_s.result(),
        limits=limits.result(),
        quotas=quotas.result(),
        volumes=volumes.result() if volumes is not None else None,
        image_list=image_list.result(),
        extensions=extensions.result(),
        images={role: task.result() for role, task in images.items()},
        flavors={role: task.result() for role, task in flavors.items()},
        network=network.result(),
        lease=lease.result(),
        groups={role: task.result() for role, task in groups.items()},
        external=external.result(),
        key_pair=key_pair.result(),
        zones=zones.result(),
        address_pairs=address_pairs.result(),
        owned=owned.result(),
    )


async def _read(call: Callable[[], T]) -> Read[T]:
    try:
        return await in_thread("looking at it", _LIMIT_S, call)
    except ProviderError as e:
        return e


@dataclass(frozen=True, slots=True)
class _Look:
    """Each method looks at one thing; blocking, for any thread; all raise ``ProviderError``."""

    cloud: Cloud
    lookup: Lookup
    stack: Stack
    settings: OpenStack
    project: str

    def ahead_s(self) -> float | None:
        before = time.time()
        date = self.cloud.date("the cloud's clock")
        # The header is cut to seconds, and was written somewhere between asking and answer.
        return None if date is None else date + 0.5 - (before + time.time()) / 2

    def limits(self) -> Body:
        found: Body = self.cloud.get("limits of Nova", "compute", "/limits")["limits"]["absolute"]
        return found

    def quotas(self) -> Body:
        found: Body = self.cloud.get("quotas of Neutron", "network", f"/quotas/{self.project}/details")[
            "quota"
        ]
        return found

    def volumes(self) -> Body:
        what = "limits of volumes"
        found: Body = self.cloud.get(what, "block_storage", "/limits")["limits"]["absolute"]
        return found

    def image_list(self) -> bool:
        self.cloud.get("the images", "image", "/images", {"limit": 1})
        return True

    def extensions(self) -> frozenset[str]:
        body = self.cloud.get("extensions of Neutron", "network", "/extensions")
        return frozenset(str(one["alias"]) for one in body["extensions"])

    def flavor(self, need: Need) -> Body:
        id_, name = self.lookup.flavor(need.role, need.limits)
        found: Body = self.cloud.get(f"flavour {name}", "compute", f"/flavors/{quote(id_)}")["flavor"]
        return found

    def network(self) -> Nets:
        try:
            network = self.lookup.network()
        except Missing:
            return Nets(0)
        return Nets(1, self._subnets(network))

    def lease(self) -> Nets:
        found = named(self.cloud, "network", network_name(self.stack.name))
        return Nets(len(found), self._subnets(str(found[0]["id"])) if len(found) == 1 else ())

    def group(self, role: Role) -> Group:
        found = named(self.cloud, "security-group", marks.pool_name(self.stack.name, role))
        if len(found) != 1:
            return Group(len(found))
        return Group(1, tuple(ingress_rules(self.cloud, f"security group of {role}", str(found[0]["id"]))))

    def external(self) -> External:
        id_ = self.lookup.external_network()
        if id_ is None:
            return External(None)
        try:
            path = f"/network-ip-availabilities/{quote(id_)}"
            body = self.cloud.get("free public addresses", "network", path)["network_ip_availability"]
        except (Missing, NotAllowed):
            return External(id_)
        return External(id_, int(body["total_ips"]) - int(body["used_ips"]))

    def key_pair(self) -> bool:
        if self.settings.key_pair is None:
            return True
        what, name = f"key pair {self.settings.key_pair}", quote(self.settings.key_pair, safe="")
        try:
            self.cloud.get(what, "compute", f"/os-keypairs/{name}")
        except Missing:
            return False
        return True

    def zones(self) -> Mapping[str, bool]:
        if not self.settings.zones:
            return {}
        body = self.cloud.get("availability zones", "compute", "/os-availability-zone")
        found = body["availabilityZoneInfo"]
        return {str(one["zoneName"]): bool(one["zoneState"]["available"]) for one in found}

    def address_pairs(self) -> bool:
        if self.settings.service_addresses != "vrrp":
            return False
        try:
            network = self.lookup.network()
        except Missing:
            return False
        subnet, inside = self.lookup.subnet()
        pair = {"ip_address": str(service_address(inside, Role.KAMAILIO))}
        # With the marks of a replica's port: should it be left behind, it is swept up as one.
        port = {
            "name": f"{marks.pool_name(self.stack.name, Role.KAMAILIO)}-doctor",
            "description": marks.replica_mark(self.stack.name),
            "network_id": network,
            "fixed_ips": [{"subnet_id": subnet}],
            "allowed_address_pairs": [pair],
        }
        what = "a port with an address pair"
        made = self.cloud.post(what, "network", "/ports", {"port": port})["port"]
        with contextlib.suppress(Missing):
            self.cloud.delete(f"removing {what}", "network", f"/ports/{made['id']}")
        return True

    def owned(self) -> Owned:
        """What is marked as the stack's, and what its foundation has of things that quotas count."""
        cloud, stack, name = self.cloud, self.stack.name, f"smd-{self.stack.name}"
        networks = named(cloud, "network", self.settings.network or name)
        networks += named(cloud, "network", network_name(stack))
        pools = [marks.replica_mark(stack), *(marks.service_mark(stack, role) for role in ROLES)]
        what = f"what stack {stack} has"
        ports = list(cloud.all(what, "network", "/ports", "ports", {"description": pools}))
        for network in networks:
            query = {"network_id": network["id"], "project_id": self.project}
            ports += [port for port in cloud.all(what, "network", "/ports", "ports", query) if _serves(port)]
        ips = tuple(cloud.all(what, "network", "/floatingips", "floatingips", {"description": pools}))
        subnets = named(cloud, "subnet", name) + named(cloud, "subnet", network_name(stack))
        routers = named(cloud, "router", name)
        return Owned(
            servers=tuple(leftovers.servers(cloud, stack)),
            server_groups=sum(1 for _ in leftovers.server_groups(cloud, stack)),
            ports=len({str(port["id"]) for port in ports}),
            floating_ips=ips,
            foundation={"network": len(networks), "subnet": len(subnets), "router": len(routers)},
        )

    def _subnets(self, network: str) -> tuple[Body, ...]:
        query = {"network_id": network, "ip_version": 4}
        return tuple(self.cloud.all("subnets", "network", "/subnets", "subnets", query))


def _serves(port: Body) -> bool:
    """Whether a port of the stack's networks is the cloud's own (router, DHCP) or the lease's."""
    owner, description = str(port.get("device_owner") or ""), str(port.get("description") or "")
    return owner.startswith("network:") or description.startswith("smd lease ")
