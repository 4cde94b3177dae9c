"""The bridge network of a stack: one /24 that overlaps nothing else this host knows."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.addresses import host_address
from sipmediadeploy.stack import Stack

RANGES = (IPv4Network("172.30.0.0/16"), IPv4Network("198.18.0.0/15"), IPv4Network("100.64.0.0/10"))
"""Where a free /24 is looked for, in this order."""

_ENGINE_CHOICE = 12
"""First of the 4 addresses that the engine may give out by itself; the address plan has none of them."""


@dataclass(frozen=True, slots=True)
class Used:
    """A network that is in use on this host."""

    network: IPv4Network
    by: str
    """What uses it, for a person: ``route by eth0``, ``Docker network lab``."""


@dataclass(frozen=True, slots=True)
class StackNetwork:
    """The stack's network as it is."""

    id: str
    subnet: IPv4Network
    bridge: str


def choose_subnet(wanted: IPv4Network | None, used: Iterable[Used]) -> IPv4Network:
    """The subnet for a new stack: ``wanted`` if it is free, without it the first free /24 of :data:`RANGES`.

    Raises:
        ProviderError: ``wanted`` overlaps something in use, or there is nothing free.
    """
    taken = list(used)
    if wanted is not None:
        for other in taken:
            if wanted.overlaps(other.network):
                raise ProviderError(
                    f"network.subnet: {wanted} overlaps {other.network}, which is in use ({other.by})",
                    hint="choose another, or leave the key out and a free one is chosen",
                )
        return wanted
    for candidate in (subnet for parent in RANGES for subnet in parent.subnets(new_prefix=24)):
        if not any(candidate.overlaps(other.network) for other in taken):
            return candidate
    raise ProviderError(
        f"no /24 network is free in {', '.join(map(str, RANGES))}",
        hint="set network.subnet in the stack file",
    )


def find_network(client: docker.DockerClient, stack: str) -> StackNetwork | None:
    """The stack's network; None when there is none yet.

    Raises:
        ProviderError: a network of that name is there and not this stack's.
    """
    try:
        attrs: dict[str, Any] = client.api.inspect_network(labels.network_name(stack))
    except NotFound:
        return None
    if (attrs.get("Labels") or {}).get(labels.STACK) != stack:
        raise ProviderError(
            f"the Docker network {attrs['Name']} is there and was not made for this stack",
            hint="remove it, or give the stack another name",
        )
    return StackNetwork(
        id=attrs["Id"],
        subnet=IPv4Network(attrs["IPAM"]["Config"][0]["Subnet"]),
        bridge=attrs["Options"]["com.docker.network.bridge.name"],
    )


def ensure_network(client: docker.DockerClient, stack: Stack) -> StackNetwork:
    """The stack's network, made if it is not there. Blocking; safe to repeat.

    Raises:
        ProviderError: no range is free, the wanted one is in use, or the engine refuses.
    """
    existing = find_network(client, stack.name)
    if existing is not None:
        wanted = stack.network.subnet
        if wanted is not None and wanted != existing.subnet:
            raise ProviderError(
                f"network.subnet says {wanted} and the stack is running in {existing.subnet}",
                hint="smd down first",
            )
        return existing
    subnet = choose_subnet(stack.network.subnet, networks_in_use(client))
    pool = IPAMPool(
        subnet=str(subnet),
        iprange=f"{subnet[_ENGINE_CHOICE]}/30",
        gateway=str(host_address(subnet)),
    )
    try:
        client.api.create_network(
            labels.network_name(stack.name),
            driver="bridge",
            check_duplicate=True,
            ipam=IPAMConfig(pool_configs=[pool]),
            options={"com.docker.network.bridge.name": labels.bridge_name(stack.name)},
            labels={labels.STACK: stack.name},
        )
    except APIError as e:
        if found := find_network(client, stack.name):
            return found  # another smd was quicker
        raise ProviderError(
            f"network {labels.network_name(stack.name)} ({subnet}): {e.explanation}"
        ) from None
    made = find_network(client, stack.name)
    if made is None:
        raise ProviderError(f"network {labels.network_name(stack.name)} vanished while it was being made")
    return made


def networks_in_use(client: docker.DockerClient, proc: Path = Path("/proc/net")) -> list[Used]:
    """Every network that this host routes, has an address in, or that the engine knows."""
    used = parse_routes(_read(proc / "route")) + parse_local_addresses(_read(proc / "fib_trie"))
    for network in client.api.networks():
        for config in (network.get("IPAM") or {}).get("Config") or ():
            if "." in config.get("Subnet", ""):
                used.append(
                    Used(IPv4Network(config["Subnet"], strict=False), f"Docker network {network['Name']}")
                )
    return used


def parse_routes(text: str) -> list[Used]:
    """The routes of ``/proc/net/route`` but the default one (its words are in the host's byte order)."""
    used = []
    for line in text.splitlines()[1:]:
        interface, destination, *rest = line.split()
        mask = rest[5]
        if int(mask, 16):
            used.append(
                Used(IPv4Network((_address(destination), str(_address(mask)))), f"route by {interface}")
            )
    return used


def parse_local_addresses(text: str) -> list[Used]:
    """The host's own addresses in ``/proc/net/fib_trie``."""
    found = re.findall(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL", text)
    return [Used(IPv4Network(address), "address of this host") for address in dict.fromkeys(found)]


def local_addresses(proc: Path = Path("/proc/net")) -> set[IPv4Address]:
    """The host's own IPv4 addresses."""
    return {used.network[0] for used in parse_local_addresses(_read(proc / "fib_trie"))}


def _address(word: str) -> IPv4Address:
    return IPv4Address(socket.inet_ntoa(struct.pack("=L", int(word, 16))))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
