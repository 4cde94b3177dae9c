"""What ``smd deploy`` does about the ground that a stack stands on: who makes it, and what a plan of
Terraform would change. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sipmediadeploy.cli.errors import CommandError

_STANDS_ON = (
    *("openstack_networking_network_v2", "openstack_networking_subnet_v2", "openstack_networking_router_v2"),
    *("openstack_networking_router_interface_v2", "openstack_networking_port_v2"),
    "openstack_networking_floatingip_v2",
)
"""Without which a stack that runs is cut off, or called by another address."""

_DONE = re.compile(r": (Creation|Modifications|Destruction) complete ")
_BY_A_PROGRAM = "(local-exec): "
_TIME = re.compile(r"^\[ *[0-9.]+ s\] ")
_EACH = 10


class Way(StrEnum):
    """Who makes networks, router, security groups and service addresses."""

    TERRAFORM = "terraform"
    """Terraform or OpenTofu."""
    SMD = "smd"
    """``smd`` itself, as ``smd bootstrap --foundation`` does."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is known before it is decided who makes it."""

    directory: Path
    """Where Terraform's configuration is."""
    program: str | None
    """Terraform or OpenTofu; None: neither is installed."""
    in_state: bool
    """Terraform's state in that directory has something."""
    in_cloud: bool
    """The cloud has what this stack stands on, or a part of it."""


def choose_way(asked: Way | None, ground: Ground, stack: str) -> tuple[Way, str]:
    """Who makes it, and why in words; two that know nothing of each other would make things twice. Pure.

    Raises:
        CommandError: what was ``asked`` for can't be done, or would make things twice.
    """
    if asked is not Way.SMD and ground.program is None:
        if asked is Way.TERRAFORM:
            raise CommandError(
                "--foundation terraform: neither terraform nor tofu is on the PATH; install one, or leave it "
                "to smd: --foundation smd"
            )
        if ground.in_state:
            raise CommandError(
                f"Terraform made what the stack {stack} stands on (its state is in {ground.directory}), and "
                "neither terraform nor tofu is on the PATH: install it"
            )
        return Way.SMD, "neither terraform nor tofu is on the PATH"
    foreign = ground.in_cloud and not ground.in_state
    if asked is Way.TERRAFORM and foreign:
        raise CommandError(
            f"--foundation terraform: the networks of the stack {stack} are there, and not in Terraform's "
            f"state in {ground.directory}. Made by smd: leave the option out. Made by Terraform elsewhere: "
            "name that directory (--terraform-dir)"
        )
    if asked is Way.SMD and ground.in_state:
        raise CommandError(
            f"--foundation smd: Terraform's state in {ground.directory} has this already; leave the option "
            "out, or end it first: terraform destroy"
        )
    if asked is not None:
        return asked, f"--foundation {asked}"
    if foreign:
        return Way.SMD, f"the networks of {stack} are there, and Terraform did not make them"
    return Way.TERRAFORM, f"{ground.program} is installed"


@dataclass(frozen=True, slots=True)
class Changes:
    """What a plan of Terraform would do."""

    add: int
    change: int
    destroy: int
    lost: tuple[str, ...]
    """What a stack stands on and would be removed, replaced or renamed, by address."""
    bootstraps: bool
    """The first scaler would be made, too."""

    @property
    def number(self) -> int:
        """How many there are."""
        return self.add + self.change + self.destroy

    def __str__(self) -> str:
        return f"{self.add} to add, {self.change} to change, {self.destroy} to destroy"


def read_plan(plan: Mapping[str, Any]) -> Changes:
    """The changes of a plan, as ``terraform show -json`` prints it. Pure."""
    number, lost, bootstraps = Counter[str](), [], False
    for one in plan.get("resource_changes", ()):
        change = one["change"]
        actions = change["actions"]
        number.update(actions)
        renamed = actions == ["update"] and _name(change["before"]) != _name(change["after"])
        if one["type"] in _STANDS_ON and ("delete" in actions or renamed):
            lost.append(str(one["address"]))
        first_scaler = (one["type"], one.get("name")) == ("terraform_data", "bootstrap")
        bootstraps = bootstraps or (first_scaler and "create" in actions)
    return Changes(number["create"], number["update"], number["delete"], tuple(lost), bootstraps)


def _name(values: Mapping[str, Any] | None) -> object:
    return (values or {}).get("name")


class ApplyProgress:
    """Tells from the lines of ``terraform apply`` how far it is. Pure."""

    def __init__(self, changes: int) -> None:
        """``changes``: how many there are to be."""
        self._changes = changes
        self._done = 0

    def said(self, line: str) -> str:
        """What is to be told after this line; empty: nothing."""
        if _BY_A_PROGRAM in line and " Executing: " not in line:
            return _TIME.sub("", line.partition(_BY_A_PROGRAM)[2].strip())
        if not _DONE.search(line):
            return ""
        self._done += 1
        told = self._done % _EACH == 0 or self._done == self._changes
        return f"Terraform: {self._done} of {self._changes} done" if told else ""
