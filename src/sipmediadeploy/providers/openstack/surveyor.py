"""Reads what a stack needs of a cloud, side by side and whatever fails: the facts of ``smd doctor``.

What follows from them is decided in ``preconditions`` and ``quotas``. Nothing is changed but for one port,
which is made and removed at once: whether a project may have address pairs can be seen in no other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.addresses import service_address
from sipmediadeploy.providers.findings import Need, Read
from sipmediadeploy.providers.openstack import leftovers, marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud, in_thread
from sipmediadeploy.providers.openstack.ensure import ingress_rules, named
from sipmediadeploy.providers.openstack.errors import Missing, NotAllowed, Unavailable
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.providers.openstack.service_addresses import PUBLIC_ROLES
from sipmediadeploy.providers.openstack.survey import External, Group, Nets, Owned, Survey
from sipmediadeploy.stack import OpenStack, Role, Stack

REQUEST_TIMEOUT_S = 8.0
_LIMIT_S = 20.0
"""For each thing that is looked at; all are looked at side by side."""

_threads = ThreadPoolExecutor(10, thread_name_prefix="survey")
"""As many as requests keeps connections for."""

T = TypeVar("T")


async def take(cloud: Cloud, stack: Stack, version: str, needs: list[Need]) -> Survey | ProviderError:
    """Look at everything; an error if the credentials are not accepted, for then nothing else can be seen.

    ``version``: of the images that replicas would be made from. The time limits of single requests are
    those of ``cloud``.
    """
    settings = stack.openstack or OpenStack()
    lookup = Lookup(cloud, stack.name, settings, version)
    try:
        project = await in_thread("the credentials", _LIMIT_S, lambda: cloud.project, _threads)
    except ProviderError as e:
        return e
    look = _Look(cloud, lookup, stack, settings, project)
    async with asyncio.TaskGroup() as tasks:

        def start(call: Callable[[], T]) -> asyncio.Task[Read[T]]:
            return tasks.create_task(_read(call))

        ahead_s, owned = start(look.ahead_s), start(look.owned)
        limits, quotas, image_list = start(look.limits), start(look.quotas), start(look.image_list)
        volumes = start(look.volumes) if settings.volume_gib is not None else None
        extensions, external = start(look.extensions), start(look.external)
        network, lease = start(look.network), start(look.lease)
        key_pair, zones = start(look.key_pair), start(look.zones)
        images = {need.role: start(partial(lookup.image, need.role)) for need in needs}
        flavors = {need.role: start(partial(look.flavor, need)) for need in needs}
        groups = {role: start(partial(look.group, role)) for role in Role}
    address_pairs = await _read(look.address_pairs)  # afterwards: its port would be counted
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
        address_pairs=address_pairs,
        owned=owned.result(),
    )


async def _read(call: Callable[[], T]) -> Read[T]:
    try:
        return await in_thread("looking at it", _LIMIT_S, call, _threads)
    except ProviderError as e:
        return e
    except (KeyError, TypeError, ValueError) as e:  # the rest is looked at all the same
        hint = "is this the right endpoint?"
        return Unavailable(f"the cloud's answer is not as expected: {e!r}", hint=hint)


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
        pools = [marks.replica_mark(stack), *(marks.service_mark(stack, role) for role in PUBLIC_ROLES)]
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
