"""Where images of roles are built (``deploy/packer``): a network with a way out, and SSH let in.

Unless a network is named, one is made for the builds of a stack, and removed afterwards. Blocking.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from urllib.parse import quote

from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.ensure import (
    ensure_one,
    ensure_router,
    ensure_rules,
    remove_named,
    remove_router,
    subnet_body,
)
from sipmediadeploy.providers.openstack.errors import Missing
from sipmediadeploy.providers.openstack.foundation import EXTERNAL, OWN, Router, Rule, Subnet
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.stack import Limits, OpenStack, Role, Stack

BUILD_RANGE = IPv4Network("10.86.255.0/24")
"""Behind a router of its own: it need not differ from anything but what the builds are to reach."""
_LIMITS = Limits(cpus=1.0, memory_mib=2048)
"""Of the server on which an image is built."""
_DESCRIPTION = "SIPMediaDeploy: image builds"


@dataclass(frozen=True, slots=True)
class Building:
    """What Packer is told of the cloud."""

    network: str
    """Its id."""
    external: str
    """The id of the network of floating IPs; empty: servers are reached without one."""
    security_group: str
    """Its name: it lets SSH in."""
    flavor: str
    """Its name or id."""
    source_image: str
    """The name of an image of Debian 12."""
    apt_proxy: str = ""
    """The URL of a proxy by which packages are reached; empty: they are without one."""


def ensure_building(
    cloud: Cloud, stack: Stack, network: str | None, flavor: str | None, source_image: str
) -> Building:
    """Make what is missing; ``network`` (name or id) and ``flavor`` are ones that are there.

    Raises:
        ProviderError: something is missing, or refused; the message says which option names another one.
    """
    settings, name = stack.openstack or OpenStack(), building_name(stack.name)
    query = {"name": source_image, "status": "active"}
    if not list(cloud.all(f"image {source_image}", "image", "/images", "images", query)):
        raise Missing(
            f"image {source_image} is missing, from which images of roles are built",
            hint="upload Debian's cloud image (genericcloud, 12) by that name, or name one that is there: "
            "--packer-image",
        )
    lookup = Lookup(cloud, stack.name, settings.model_copy(update={"network": network, "flavors": {}}), "")
    external = lookup.external_network() or ""
    chosen = flavor or _flavor(lookup)
    if network is not None:
        id_ = lookup.network()
        found = cloud.get(f"network {network}", "network", f"/networks/{quote(id_)}")["network"]
        external = "" if found.get("router:external") else external
    elif external:
        id_ = _own_network(cloud, name, settings, external)
    else:
        raise Missing(
            "images of roles can't be built: the cloud has no external network, and Debian's packages must "
            "be reached",
            hint="name a network from which they are: --packer-network",
        )
    group = ensure_one(cloud, "security-group", name, {"description": _DESCRIPTION})
    ensure_rules(cloud, name, group, [Rule("build", "SSH of Packer", "tcp", 22, 22, "0.0.0.0/0")])
    return Building(id_, external, name, chosen, source_image)


def remove_building(cloud: Cloud, stack: str) -> None:
    """Remove what was made for the builds of a stack; repeatable, and none is no error.

    Raises:
        ProviderError: something is in use, or the cloud refuses.
    """
    name = building_name(stack)
    remove_router(cloud, name)
    remove_named(cloud, "network", name)
    remove_named(cloud, "security-group", name)


def building_name(stack: str) -> str:
    """What everything that is made for the builds of a stack is called; no stack's own things are. Pure."""
    return f"smd.build.{stack}"


def _own_network(cloud: Cloud, name: str, settings: OpenStack, external: str) -> str:
    network = ensure_one(cloud, "network", name, {"description": _DESCRIPTION})
    subnet = Subnet(
        name,
        OWN,
        str(BUILD_RANGE),
        gateway=str(BUILD_RANGE[1]),
        dhcp=True,
        first=str(BUILD_RANGE[2]),
        last=str(BUILD_RANGE[-2]),
        dns_servers=tuple(str(server) for server in settings.dns_servers),
    )
    id_ = ensure_one(cloud, "subnet", name, subnet_body(subnet, network))
    ensure_router(cloud, Router(name, _DESCRIPTION, EXTERNAL, OWN), external, id_)
    return network


def _flavor(lookup: Lookup) -> str:
    try:
        return lookup.flavor(Role.GATEWAY, _LIMITS)[1]
    except Missing:
        raise Missing(
            f"no flavour has {_LIMITS.memory_mib} MiB, in which images of roles are built; "
            "name one that will do: --packer-flavor"
        ) from None
