"""The stack as seen from the host: every replica with what its agent says, and what is missing."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sipmediadeploy.protocol.agent import Gateway, Gateways, State, Status
from sipmediadeploy.protocol.client import AgentError, Agents
from sipmediadeploy.protocol.replica import GATEWAY_SIP_PORT
from sipmediadeploy.providers.base import Life, Provider, ReplicaRecord
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.stack import Role, Stack

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WELL = (State.READY, State.BUSY)
LEAVING = (State.DRAINING, State.DRAINED)
_BOOTING_S = 20.0
"""A replica that was made so short a time ago and does not answer yet is taken to be booting."""
_PIPE_WIDTH = 140
"""Columns of a table that is not printed to a terminal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica now."""

    record: ReplicaRecord
    status: Status | None
    error: str = ""
    """Why there is no status."""
    outdated: bool = False

    @property
    def state(self) -> str:
        """Its state in one word."""
        if self.record.life is Life.STOPPED:
            return "stopped"
        if self.status is not None:
            return str(self.status.state)
        young = time.time() - self.record.created_at < _BOOTING_S
        return str(State.BOOTING) if young else "silent"

    @property
    def well(self) -> bool:
        """It is up to date and does its job."""
        return self.status is not None and self.status.state in WELL and not self.outdated

    @property
    def reason(self) -> str:
        """Why it is in its state."""
        reason = self.status.reason if self.status is not None else self.error
        return f"outdated; {reason}" if self.outdated else reason


async def look(
    provider: Provider, agents: Agents, wanted: dict[tuple[Role, int], str], version: str
) -> list[Seen]:
    """Every replica of the stack and what it says now, by role and slot.

    ``wanted`` are the service hashes of up-to-date replicas.

    Raises:
        ProviderError: the inventory can't be read.
    """

    async def ask(record: ReplicaRecord) -> Seen:
        outdated = record.config_hash != wanted.get((record.role, record.slot)) or record.version != version
        try:
            return Seen(record, await agents.status(record), outdated=outdated)
        except AgentError as e:
            return Seen(record, None, str(e), outdated)

    order = list(Role)
    seen = await asyncio.gather(*(ask(record) for record in await provider.inventory()))
    return sorted(seen, key=lambda one: (order.index(one.record.role), one.record.slot, one.record.name))


def missing(stack: Stack, seen: list[Seen]) -> list[str]:
    """What is not as it should be, a sentence each; nothing when the stack is whole."""
    problems = []
    for role, number in wanted_numbers(stack).items():
        well = [one for one in seen if one.record.role is role and one.well]
        if len(well) < number:
            problems.append(f"{role}: {len(well)} of {number} replicas are ready")
        for one in seen:
            if one.record.role is role and one.outdated and not (one.status and one.status.state in LEAVING):
                problems.append(f"{one.record.name} is outdated and not replaced yet")
    for role in (Role.KAMAILIO, Role.COTURN):
        holders = holders_of(seen, role)
        if len(holders) != 1:
            problems.append(f"the service address of {role} is held by {' and '.join(holders) or 'nobody'}")
    leaders = holders_of(seen, Role.SCALER)
    if len(leaders) != 1:
        problems.append(f"the scalers are led by {' and '.join(leaders) or 'nobody'}")
    gateways = expected_gateways(seen)
    for one in seen:
        told = one.status.gateways_revision if one.status else None
        if one.record.role is Role.KAMAILIO and one.well and told != gateways.revision:
            problems.append(f"{one.record.name} does not use the present list of gateways yet")
    return problems


def wanted_numbers(stack: Stack) -> dict[Role, int]:
    """How many replicas of each role the stack has at least."""
    pools = stack.pools
    return {
        Role.KAMAILIO: pools.kamailio.replicas,
        Role.COTURN: pools.coturn.replicas,
        Role.GATEWAY: pools.gateway.min,
        Role.SCALER: pools.scaler.replicas,
        **({Role.CONFERENCE_DEMO: 1} if stack.demo else {}),
    }


def holders_of(seen: list[Seen], role: Role) -> list[str]:
    """The replicas that hold the service address of ``role``, or the scalers that lead."""
    return [one.record.name for one in seen if one.record.role is role and one.status and one.status.active]


def expected_gateways(seen: list[Seen]) -> Gateways:
    """The gateways as the scaler tells Kamailio of them (see ``scaler.plan.gateway_list``)."""
    listed = []
    for one in seen:
        if one.record.role is not Role.GATEWAY or one.status is None or one.status.state is State.BOOTING:
            continue
        free = max(one.status.capacity - one.status.calls, 0) if one.status.state in WELL else 0
        record = one.record
        listed.append(Gateway(name=record.name, address=record.address, port=GATEWAY_SIP_PORT, free=free))
    return Gateways(term=0, gateways=tuple(listed))


def sip_address(stack: Stack, subnet: IPv4Network, room: str = "demo") -> str:
    """What to call."""
    host = stack.publish or addresses.service_address(subnet, Role.KAMAILIO)
    port = "" if stack.sip.port == 5060 else f":{stack.sip.port}"
    return f"sip:{room}@{host}{port}"


def page_address(stack: Stack, subnet: IPv4Network, room: str = "demo") -> str | None:
    """What to open in a browser; None when the conference is not the embedded one."""
    if not stack.demo:
        return None
    host = stack.publish or addresses.slot_address(subnet, Role.CONFERENCE_DEMO, 0)
    return f"https://{host}/{room}"


def as_data(stack: Stack, subnet: IPv4Network, seen: list[Seen]) -> dict[str, Any]:
    """The view for ``--json``."""
    problems = missing(stack, seen)
    return {
        "stack": stack.name,
        "sip": sip_address(stack, subnet),
        "page": page_address(stack, subnet),
        "whole": not problems,
        "problems": problems,
        "service_addresses": {
            str(role): {
                "address": str(addresses.service_address(subnet, role)),
                "held_by": holders_of(seen, role),
            }
            for role in (Role.KAMAILIO, Role.COTURN)
        },
        "replicas": [_replica_data(one) for one in seen],
    }


def _replica_data(one: Seen) -> dict[str, Any]:
    record, status = one.record, one.status
    data: dict[str, Any] = {
        "name": record.name,
        "role": str(record.role),
        "slot": record.slot,
        "address": str(record.address),
        "id": record.id,
        "life": str(record.life),
        "state": one.state,
        "reason": one.reason,
        "outdated": one.outdated,
        "version": record.version,
    }
    if status is not None:
        fields = {"calls", "capacity", "active", "retired", "drained_by", "uptime_s", "term"}
        data |= status.model_dump(mode="json", include=fields)
    return data


def console() -> Console:
    """Where tables are printed: as wide as the terminal, and wide enough for a pipe or a file."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def table(seen: list[Seen]) -> Table:
    """The replicas as a table."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("replica", "state", "calls", "address", "reason"):
        table.add_column(heading, overflow="ellipsis", no_wrap=heading != "reason")
    for one in seen:
        status = one.status
        calls = f"{status.calls}/{status.capacity}" if status and one.record.role is Role.GATEWAY else ""
        role = {True: "active", False: "standby", None: ""}[status.active if status else None]
        state = f"{one.state}, {role}" if role else one.state
        color = "green" if one.well else "yellow" if one.status else "red"
        table.add_row(one.record.name, f"[{color}]{state}[/]", calls, str(one.record.address), one.reason)
    return table


def shorten(path: Path) -> str:
    """A path as the user would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
