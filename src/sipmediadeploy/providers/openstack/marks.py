"""How what belongs to a stack is told from everything else in a project of the cloud. Pure.

Servers carry metadata, and one tag that the cloud filters by. Ports and floating IPs carry a *mark*,
their description, since that is the only thing that is set by the very request that makes them, and that
the cloud filters by: nothing is ever there without its mark. Server groups have a name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.stack import Role

STACK = "smd.stack"
ROLE = "smd.role"
SLOT = "smd.slot"
NAME = "smd.name"
ADDRESS = "smd.address"
CONFIG_HASH = "smd.config-hash"
VERSION = "smd.version"
CREATED = "smd.created"
ZONE = "smd.zone"

GROUP_SIZE = 10
"""Nova's usual quota of servers in a group; slots are dealt out to groups by it."""

_STARTING = ("BUILD", "REBUILD")
_STOPPED = ("DELETED", "SOFT_DELETED", "SHUTOFF", "SHELVED", "SHELVED_OFFLOADED", "CRASHED")
_POWERED_ON = 1


def server_tag(stack: str) -> str:
    """The tag of a stack's servers; Nova allows no comma and no slash in it."""
    return f"{STACK}={stack}"


def replica_mark(stack: str) -> str:
    """The description of the ports and floating IPs of a stack's replicas: they go when their replica
    goes.
    """
    return f"smd stack={stack} of=replica"


def service_mark(stack: str, role: Role) -> str:
    """The description of the port and the floating IP of a pool's service address: they stay."""
    return f"smd stack={stack} of={role}"


def pool_name(stack: str, role: Role) -> str:
    """The name of what a pool has one of: security group, port of the service address, image family."""
    return f"smd-{stack}-{role}"


def group_name(stack: str, role: Role, slot: int) -> str:
    """The name of the server group of a slot."""
    number = slot // GROUP_SIZE
    return pool_name(stack, role) + (f"-{number}" if number else "")


def metadata(document: ReplicaDocument, version: str, zone: str, now: float) -> dict[str, str]:
    """The metadata of a replica's server: all that the inventory knows of it."""
    return {
        STACK: document.stack,
        ROLE: str(document.role),
        SLOT: str(document.slot),
        NAME: document.name,
        ADDRESS: str(document.address),
        CONFIG_HASH: document.service_hash(),
        VERSION: version,
        CREATED: f"{now:.6f}",
        ZONE: zone,
    }


def record(server: Mapping[str, Any], stack: str) -> ReplicaRecord | None:
    """The record of a server as Nova shows it; None: it is no replica of the stack."""
    marks = server.get("metadata") or {}
    if marks.get(STACK) != stack:
        return None
    try:
        return ReplicaRecord(
            id=str(server["id"]),
            name=marks[NAME],
            role=Role(marks[ROLE]),
            slot=int(marks[SLOT]),
            address=IPv4Address(marks[ADDRESS]),
            life=life(server),
            created_at=float(marks[CREATED]),
            config_hash=marks[CONFIG_HASH],
            version=marks[VERSION],
            zone=marks.get(ZONE, ""),
        )
    except (KeyError, ValueError):
        return None


def life(server: Mapping[str, Any]) -> Life:
    """What a server's status says of its life.

    A frozen or rebooting one may have calls that go on: its health probes speak for it. One in ERROR is
    over, unless its hypervisor still sees it running: then a request of somebody failed on it, and it
    may have calls.
    """
    status = str(server.get("status", "")).upper()
    if status in _STARTING:
        return Life.STARTING
    if status == "ERROR":
        return Life.FAILED if server.get("OS-EXT-STS:power_state") == _POWERED_ON else Life.STOPPED
    return Life.STOPPED if status in _STOPPED else Life.RUNNING
