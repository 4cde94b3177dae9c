"""What a stack needs of this host and its engine: what there is, and what is in the way."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.addresses import service_address
from sipmediadeploy.providers.docker.engine import can_start, connect, reason
from sipmediadeploy.providers.docker.network import (
    choose_subnet,
    find_network,
    local_addresses,
    networks_in_use,
)
from sipmediadeploy.providers.docker.publish import listeners, refuse_other_stack
from sipmediadeploy.providers.docker.publish_rules import forwards, refuse_conflicts
from sipmediadeploy.providers.findings import Finding, Level, Need, failed, ok, problem, unknown, warning
from sipmediadeploy.stack import Role, Stack

REQUEST_TIMEOUT_S = 8
DISK_NEEDED_GIB = 2.0
"""With less the images can't be built or loaded."""
DISK_WANTED_GIB = 5.0
_ANY_SUBNET = IPv4Network("172.30.0.0/24")
"""For what depends on the plan of addresses only, and not on where they are."""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that the engine runs on."""

    version: str
    """Of the engine."""
    cpus: int
    memory_mib: int
    free_gib: float | None
    """Where the engine keeps images and containers; None: it is another machine's."""


def look(stack: Stack, needs: Sequence[Need]) -> tuple[list[Finding], IPv4Address | None]:
    """Look at everything, whatever fails; and where the stack is called, if that is known. Blocking."""
    found: list[Finding] = []
    subnet: IPv4Network | None = None
    try:
        with contextlib.closing(connect(REQUEST_TIMEOUT_S)) as client:
            found += judge(read_host(client), needs)
            subnet, finding = _network(client, stack)
            found.append(finding)
            if stack.publish is not None:
                found.append(_publish(stack, stack.publish, subnet, client))
    except (ProviderError, DockerException, requests.RequestException, OSError) as e:
        found.append(_no_engine(e))
        if stack.publish is not None:
            found.append(_publish(stack, stack.publish, None, None))
    here = service_address(subnet, Role.KAMAILIO) if subnet is not None else None
    return found, stack.publish or here


def read_host(client: docker.DockerClient) -> Host:
    """What the engine says of its host."""
    info = client.info()
    remote = not os.environ.get("DOCKER_HOST", "unix://").startswith("unix://")
    free = None
    with contextlib.suppress(OSError, KeyError):
        free = None if remote else shutil.disk_usage(Path(info["DockerRootDir"])).free / 2**30
    return Host(str(info["ServerVersion"]), int(info["NCPU"]), int(info["MemTotal"]) // 2**20, free)


def judge(host: Host, needs: Sequence[Need]) -> list[Finding]:
    """Whether the host is enough for the pools. Pure."""
    found = [ok("engine", f"answers, version {host.version}"), _disk(host.free_gib)]
    greedy = [need for need in needs if need.limits.cpus > host.cpus]
    for need in greedy:
        said = f"pools.{need.role}.limits.cpus is {need.limits.cpus:g}, and the machine has {host.cpus}"
        found.append(problem("CPUs", said, "the engine refuses that: lower it"))
    if not greedy:
        found.append(ok("CPUs", f"{host.cpus}; no replica may use more"))
    most = sum(need.limits.memory_mib * need.replicas for need in needs)
    said = f"{host.memory_mib} MiB; replicas may use {most} MiB, if all that there can be use all they may"
    todo = "lower pools.gateway.max or limits.memory_mib, or watch the memory under load"
    enough = most <= host.memory_mib
    return [*found, ok("memory", said) if enough else warning("memory", said, todo)]


def _disk(free_gib: float | None) -> Finding:
    what, todo = "disk", "make room where the engine keeps its data (docker system df)"
    if free_gib is None:
        return unknown(what, "the engine is on another machine")
    said = f"{free_gib:.1f} GiB free for images and containers"
    if free_gib < DISK_NEEDED_GIB:
        return problem(what, said, todo)
    return warning(what, said, todo) if free_gib < DISK_WANTED_GIB else ok(what, said)


def _no_engine(error: Exception) -> Finding:
    said = str(error) if isinstance(error, ProviderError) else reason(error)
    if isinstance(error, ProviderError) and can_start():
        return warning("engine", said, "smd up starts it")
    return problem("engine", said, "install it, start it, or set DOCKER_HOST; then look again")


def _network(client: docker.DockerClient, stack: Stack) -> tuple[IPv4Network | None, Finding]:
    try:
        there = find_network(client, stack.name)
        if there is not None:
            return there.subnet, ok("network", f"is there, {there.subnet}")
        subnet = choose_subnet(stack.network.subnet, networks_in_use(client))
    except ProviderError as e:
        return None, failed(Level.PROBLEM, "network", e)
    return subnet, ok("network", f"{subnet} is free")


def _publish(
    stack: Stack, publish: IPv4Address, subnet: IPv4Network | None, client: docker.DockerClient | None
) -> Finding:
    what = f"ports of {publish}"

    try:
        refuse_conflicts(publish, forwards(stack, subnet or _ANY_SUBNET), local_addresses(), listeners())
        if client is not None:
            refuse_other_stack(client, stack.name, publish)
    except ProviderError as e:
        return failed(Level.PROBLEM, what, e)
    return ok(what, "free for the stack")
