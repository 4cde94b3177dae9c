"""What is made of a stack as it was seen, for people and other programs: what is missing, tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sipmediadeploy.protocol.agent import Gateway, Gateways, State
from sipmediadeploy.protocol.replica import GATEWAY_SIP_PORT
from sipmediadeploy.protocol.seen import WELL, Seen, StackNow
from sipmediadeploy.providers.base import FloatingIp
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.stack import Role, Stack

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LEAVING = (State.DRAINING, State.DRAINED)
_STALE_S = 15.0
"""What was read of the provider before may have changed."""
_PIPE_WIDTH = 140
"""Columns of a table that is not printed to a terminal."""


def problems(stack: Stack, now: StackNow) -> list[str]:
    """What is not as it should be, a sentence each; nothing when the stack is whole."""
    age = now.inventory_age_s
    if age is not None and age < _STALE_S:
        return missing(stack, now.replicas, now.floating_ips)
    since = "since it was started" if age is None else f"for {age:.0f} s"
    old = f"the scaler that answers could not read the list of replicas {since}"
    return [old, *missing(stack, now.replicas, now.floating_ips)]


def missing(stack: Stack, seen: Sequence[Seen], floating_ips: Sequence[FloatingIp] = ()) -> list[str]:
    """What is missing of the replicas, a sentence each."""
    found = []
    for role, number in wanted_numbers(stack).items():
        well = [one for one in seen if one.record.role is role and one.well]
        if len(well) < number:
            found.append(f"{role}: {len(well)} of {number} replicas are ready")
        for one in seen:
            if one.record.role is role and one.outdated and not (one.status and one.status.state in LEAVING):
                found.append(f"{one.record.name} is outdated and not replaced yet")
    found += [
        f"{one.record.name}: {warning}" for one in seen if one.status for warning in one.status.warnings
    ]
    for role in (Role.KAMAILIO, Role.COTURN):
        holders = holders_of(seen, role, floating_ips)
        if len(holders) != 1:
            found.append(f"the service address of {role} is held by {' and '.join(holders) or 'nobody'}")
    leaders = holders_of(seen, Role.SCALER)
    if len(leaders) != 1:
        found.append(f"the scalers are led by {' and '.join(leaders) or 'nobody'}")
    gateways = expected_gateways(seen)
    for one in seen:
        told = one.status.gateways_revision if one.status else None
        if one.record.role is Role.KAMAILIO and one.well and told != gateways.revision:
            found.append(f"{one.record.name} does not use the present list of gateways yet")
    return found


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


def holders_of(seen: Sequence[Seen], role: Role, floating_ips: Sequence[FloatingIp] = ()) -> list[str]:
    """The replicas that hold the address of ``role``, or the scalers that lead.

    Where no service address moves, the one to which the pool's floating IP is mapped has it.
    """
    mapped = {ip.mapped_to for ip in floating_ips if ip.role is role and role is not Role.SCALER}
    return [
        one.record.name
        for one in seen
        if one.record.role is role and one.status and (one.status.active or one.record.id in mapped)
    ]


def expected_gateways(seen: Sequence[Seen]) -> Gateways:
    """The gateways as the scaler tells Kamailio of them (see ``scaler.plan.gateway_list``)."""
    listed = []
    for one in seen:
        if one.record.role is not Role.GATEWAY or one.status is None or one.status.state is State.BOOTING:
            continue
        free = max(one.status.capacity - one.status.calls, 0) if one.status.state in WELL else 0
        record = one.record
        listed.append(Gateway(name=record.name, address=record.address, port=GATEWAY_SIP_PORT, free=free))
    return Gateways(term=0, gateways=tuple(listed))


def sip_address(
    stack: Stack, subnet: IPv4Network, room: str = "demo", public: IPv4Address | None = None
) -> str:
    """What to call; ``public``: the pool's floating IP."""
    host = public or stack.publish or addresses.service_address(subnet, Role.KAMAILIO)
    port = "" if stack.sip.port == 5060 else f":{stack.sip.port}"
    return f"sip:{room}@{host}{port}"


def page_address(stack: Stack, subnet: IPv4Network, room: str = "demo") -> str | None:
    """What to open in a browser; None when there is nothing of the stack's own that one could reach.

    On a cloud the demo conference has an address of the stack's own network only.
    """
    if not stack.demo or stack.provider != "docker":
        return None
    host = stack.publish or addresses.slot_address(subnet, Role.CONFERENCE_DEMO, 0)
    return f"https://{host}/{room}"


def as_data(stack: Stack, now: StackNow) -> dict[str, Any]:
    """The view for ``--json``."""
    found, subnet, public = problems(stack, now), now.subnet, {ip.role: ip.address for ip in now.floating_ips}
    return {
        "stack": stack.name,
        "sip": sip_address(stack, subnet, public=public.get(Role.KAMAILIO)),
        "page": page_address(stack, subnet),
        "whole": not found,
        "problems": found,
        "service_addresses": {
            str(role): {
                "address": str(addresses.service_address(subnet, role)),
                "held_by": holders_of(now.replicas, role, now.floating_ips),
            }
            for role in (Role.KAMAILIO, Role.COTURN)
        },
        "floating_ips": {str(role): str(address) for role, address in public.items()},
        "replicas": [_replica_data(one) for one in now.replicas],
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


def table(seen: Sequence[Seen]) -> Table:
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


def timed_report() -> Callable[[str], None]:
    """Prints what a command is doing, a line at a time, with the seconds since now."""
    started = time.monotonic()
    return lambda line: print(f"[{time.monotonic() - started:5.1f} s] {line}", flush=True)


def shorten(path: Path) -> str:
    """A path as the user would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
