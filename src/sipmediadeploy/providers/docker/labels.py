"""Labels and names of what belongs to a stack on Docker: nothing else is ever listed or removed."""

from __future__ import annotations

import hashlib

from sipmediadeploy.stack import Role

STACK = "smd.stack"
KIND = "smd.kind"
ROLE = "smd.role"
SLOT = "smd.slot"
NAME = "smd.name"
ADDRESS = "smd.address"
CONFIG_HASH = "smd.config-hash"
VERSION = "smd.version"
CREATED = "smd.created"

HOLDER = "smd.holder"
TERM = "smd.term"

REPLICA = "replica"
LEASE = "lease"
PUBLISH = "publish"

_INTERFACE_MAX = 15  # IFNAMSIZ - 1


def stack_filter(stack: str) -> dict[str, str]:
    """The engine's filter for what belongs to ``stack``."""
    return {"label": f"{STACK}={stack}"}


def network_name(stack: str) -> str:
    """The name of the stack's bridge network."""
    return f"smd-{stack}"


def container_name(stack: str, replica: str) -> str:
    """The name of the container of ``replica``: it always begins with ``smd-STACK-``."""
    return f"smd-{replica}" if replica.startswith(f"{stack}-") else f"smd-{stack}-{replica}"


def bridge_name(stack: str) -> str:
    """The name of the stack's bridge interface: at most 15 characters, its own for each stack."""
    name = f"smd-{stack}"
    if len(name) <= _INTERFACE_MAX:
        return name
    return f"smd-{stack[:4]}-{hashlib.sha256(stack.encode()).hexdigest()[:6]}"


def image_name(role: Role | str, version: str) -> str:
    """The name and tag of the image of ``role``."""
    return f"smd/{role}:{version}"
