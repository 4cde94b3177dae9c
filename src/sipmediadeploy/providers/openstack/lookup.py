"""Finds what a stack needs and does not make itself: images, flavours, networks, security groups.

What was found is remembered for a minute: a list of images is long, and seldom changes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar
from urllib.parse import quote

from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud, Service
from sipmediadeploy.providers.openstack.errors import Conflict, Missing
from sipmediadeploy.stack import Limits, OpenStack, Role

VERSION_PROPERTY = "smd_version"
"""The image property that says of which version it is."""
_REMEMBERED_S = 60.0
MADE_BY = "terraform apply (or smd bootstrap --foundation) makes it"
"""Of what a stack stands on, where it is missing."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Image:
    """An image in Glance, and what Nova asks of a flavour that is to run it."""

    id: str
    disk_gib: int
    """Of the root disk: its ``min_disk``, or what it takes as it is. One that Packer built is as large as the
    root disk on which it was built."""
    memory_mib: int
    """Its ``min_ram``."""


class Lookup:
    """Blocking, for any thread. Everything raises ``ProviderError`` that says what is missing and what
    to do.
    """

    def __init__(self, cloud: Cloud, stack: str, settings: OpenStack, version: str) -> None:
        """``version``: of the images that replicas are made from."""
        self._cloud = cloud
        self._stack = stack
        self._settings = settings
        self._version = version
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, object]] = {}

    def forget(self) -> None:
        """Look everything up anew: something was not as it was."""
        with self._lock:
            self._found.clear()

    def image(self, role: Role) -> Image:
        """The image of ``role``: the newest one of its name, and of the stack's version by default."""
        return self._remember(f"image {role}", lambda: _image(self._image(role)))

    def flavor(self, role: Role, limits: Limits) -> tuple[str, str]:
        """Id and name of the flavour of ``role``: the named one, or the smallest that has room for ``limits``
        and for the image, where that is there already.
        """
        return self._remember(f"flavor {role} {limits}", lambda: self._flavor(role, limits))

    def network(self) -> str:
        """The id of the stack's own network."""
        name = self._settings.network or f"smd-{self._stack}"
        hint = MADE_BY if self._settings.network is None else "make it, or correct openstack.network"
        return self._remember("network", lambda: self._one("network", "networks", name, hint))

    def subnet(self, holding: IPv4Address | None = None) -> tuple[str, IPv4Network]:
        """Id and range of the stack's subnet: the one that has the address ``holding``, or the only one."""
        return self._remember(f"subnet {holding}", lambda: self._subnet(holding))

    def external_network(self) -> str | None:
        """The id of the network that public addresses come from; None: the cloud has none."""
        return self._remember("external", self._external_network)

    def security_groups(self, role: Role) -> tuple[str, ...]:
        """The ids of a pool's security groups."""
        name = marks.pool_name(self._stack, role)
        hint = MADE_BY

        def find() -> tuple[str, ...]:
            mine = {"project_id": self._cloud.project}
            return (self._one("security group", "security-groups", name, hint, mine),)

        return self._remember(f"group {role}", find)

    def _remember(self, key: str, find: Callable[[], T]) -> T:
        with self._lock:
            until, known = self._found.get(key, (0.0, None))
        if time.monotonic() < until:
            return known  # type: ignore[return-value]
        value = find()
        with self._lock:
            self._found[key] = time.monotonic() + _REMEMBERED_S, value
        return value

    def _image(self, role: Role) -> Body:
        given = self._settings.images.get(role)
        name = given or f"smd-{role}"
        what = f"image {name}"
        newest = {"name": name, "status": "active", "sort": "created_at:desc"}
        found = list(self._cloud.all(what, "image", "/images", "images", newest))
        if given is None:
            versions = [str(one.get(VERSION_PROPERTY, "")) for one in found]
            found = [one for one in found if one.get(VERSION_PROPERTY) == self._version]
            if not found:
                there = f"there are: {', '.join(versions)}" if versions else "there is no image of that name"
                raise Missing(
                    f"{what} of version {self._version} is missing ({there})",
                    hint=f"build it, or name one in openstack.images.{role}",
                )
        if found:
            return found[0]
        return self._get(what, "image", "/images", name, f"build it, or correct openstack.images.{role}")

    def _flavor(self, role: Role, limits: Limits) -> tuple[str, str]:
        given = self._settings.flavors.get(role)
        flavors = list(self._cloud.all("flavours", "compute", "/flavors/detail", "flavors"))
        if given is not None:
            for one in flavors:
                if given in (one["name"], one["id"]):
                    return str(one["id"]), str(one["name"])
            names = ", ".join(sorted(one["name"] for one in flavors)) or "none"
            hint = f"correct openstack.flavors.{role}"
            raise Missing(f"flavour {given} is missing (there are: {names})", hint=hint)
        try:
            image = self.image(role)
        except Missing:  # it is made later, or said elsewhere
            image = Image("", 1, 0)
        disk = 0 if self._settings.volume_gib else max(1, image.disk_gib)
        memory = max(limits.memory_mib, image.memory_mib)
        fitting = [
            one for one in flavors if _fits(one, limits) and one["disk"] >= disk and one["ram"] >= memory
        ]
        if not fitting:
            asked = f"{limits.cpus:g} CPUs and {memory} MiB"
            if disk > 1:
                asked += f", and the {disk} GB of disk that the image needs,"
            raise Missing(
                f"no flavour has {asked} for {role}",
                hint=f"name one in openstack.flavors.{role}, or lower pools.{role}.limits",
            )
        best = min(fitting, key=lambda one: (one["ram"], one["vcpus"], one["disk"], one["name"]))
        return str(best["id"]), str(best["name"])

    def _subnet(self, holding: IPv4Address | None) -> tuple[str, IPv4Network]:
        what = "subnets of the stack's network"
        query = {"network_id": self.network(), "ip_version": 4}
        found = self._cloud.all(what, "network", "/subnets", "subnets", query)
        ranges = [(str(one["id"]), IPv4Network(one["cidr"])) for one in found]
        if holding is not None:
            ranges = [(id_, subnet) for id_, subnet in ranges if holding in subnet]
        if len(ranges) != 1:
            wanted = f"that has {holding}" if holding is not None else "with IPv4"
            raise Missing(f"{what}: {len(ranges)} subnets {wanted} and not one", hint="it needs one /24")
        return ranges[0]

    def _external_network(self) -> str | None:
        given = self._settings.external_network
        if given is not None:
            hint = "correct openstack.external_network"
            return self._one("external network", "networks", given, hint, {"router:external": True})
        query = {"router:external": True}
        found = list(self._cloud.all("external networks", "network", "/networks", "networks", query))
        if len(found) > 1:
            names = ", ".join(sorted(one["name"] for one in found))
            raise Conflict(
                f"the cloud has several external networks ({names})",
                hint="name one in openstack.external_network",
            )
        return str(found[0]["id"]) if found else None

    def _one(self, what: str, path: str, name: str, hint: str, query: Body | None = None) -> str:
        key = path.replace("-", "_")
        found = list(
            self._cloud.all(f"{what} {name}", "network", f"/{path}", key, {"name": name, **(query or {})})
        )
        if len(found) > 1:
            hint = "give its id, or rename the others"
            raise Conflict(f"{what} {name}: {len(found)} have that name", hint=hint)
        if found:
            return str(found[0]["id"])
        return str(self._get(f"{what} {name}", "network", f"/{path}", name, hint)["id"])

    def _get(self, what: str, service: Service, path: str, id_: str, hint: str) -> Body:
        try:
            body = self._cloud.get(what, service, f"{path}/{quote(id_)}")
        except Missing:
            raise Missing(f"{what} is missing", hint=hint) from None
        found: Body = body.get(path.strip("/").rstrip("s").replace("-", "_")) or body
        return found


def _image(body: Body) -> Image:
    sizes = [body.get("size") or 0, body.get("virtual_size") or 0]
    disk = max(int(body.get("min_disk") or 0), *(math.ceil(size / 2**30) for size in sizes))
    return Image(str(body["id"]), disk, int(body.get("min_ram") or 0))


def _fits(flavor: Body, limits: Limits) -> bool:
    return bool(flavor["vcpus"] >= math.ceil(limits.cpus) and flavor["ram"] >= limits.memory_mib)
