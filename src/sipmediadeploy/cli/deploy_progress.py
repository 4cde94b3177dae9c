"""How far a stack that is being deployed has come, in words; and what to say when it is whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from sipmediadeploy.cli.doctor_dns import made_up
from sipmediadeploy.cli.view import problems, wanted_numbers
from sipmediadeploy.protocol.scaler import API_PORT
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.base import FloatingIp, Life, ReplicaRecord
from sipmediadeploy.stack import Role, Stack


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it has come."""

    line: str
    lacking: tuple[str, ...]
    """What is missing, a sentence each; empty: it is whole, as far as it can be seen."""
    floating_ips: Mapping[Role, IPv4Address]


def told_by_scalers(stack: Stack, now: StackNow) -> Progress:
    """What the scalers' API says."""
    ready = {
        role: sum(one.record.role is role and one.well for one in now.replicas)
        for role in wanted_numbers(stack)
    }
    lacking = problems(stack, now)
    line = _counted(stack, ready, "ready")
    if lacking and all(ready[role] >= number for role, number in wanted_numbers(stack).items()):
        line += f"; {lacking[0]}"
    return Progress(line, tuple(lacking), _by_role(now.floating_ips))


def shown_by_cloud(
    stack: Stack,
    version: str,
    records: Sequence[ReplicaRecord],
    floating_ips: Sequence[FloatingIp],
    sip: str | None,
) -> Progress:
    """What can be seen without the scalers: servers of ``version`` that run, addresses, and SIP.

    ``sip``: why the floating IP of kamailio gives no answer; empty: it does; None: it is not asked.
    """
    running = {
        role: sum(one.role is role and one.version == version and one.life is Life.RUNNING for one in records)
        for role in wanted_numbers(stack)
    }
    lacking = [
        f"{role}: {running[role]} of {number} servers run"
        for role, number in wanted_numbers(stack).items()
        if running[role] < number
    ]
    line = _counted(stack, running, "servers run")
    if sip:
        lacking.append(f"SIP: {sip}")
    if sip is not None:
        line += "; SIP is not answered yet" if sip else "; SIP is answered"
    return Progress(line, tuple(lacking), _by_role(floating_ips))


def _counted(stack: Stack, number: Mapping[Role, int], what: str) -> str:
    """``kamailio 1 of 2 ready, coturn 0 of 2, ...``."""
    parts = [f"{role} {number[role]} of {wanted}" for role, wanted in wanted_numbers(stack).items()]
    return ", ".join([f"{parts[0]} {what}", *parts[1:]])


def _by_role(floating_ips: Sequence[FloatingIp]) -> dict[Role, IPv4Address]:
    return {ip.role: ip.address for ip in floating_ips}


def not_whole(stack: Stack, progress: Progress, limit_s: float, api: str | None) -> str:
    """What is said when the time is over; ``api``: why the scalers do not answer (None: they do)."""
    lines = [f"the stack {stack.name} is not whole after {limit_s:.0f} s:"]
    lines += [f"  {one}" for one in progress.lacking]
    lines.append("Where to look:")
    if api is None:
        lines.append("  smd events                                  what the scalers do, and what fails")
        lines.append("  smd status                                  what each replica says")
    else:
        lines.append(f"  its scalers do not answer here: {api}")
    lines.append("  smd doctor                                  what in the cloud is in the way")
    lines.append(
        f"  openstack server list --tags smd.stack={stack.name}    its servers, and ERROR among them"
    )
    lines.append(f"  openstack console log show {stack.name}-scaler-0        how the first scaler came up")
    lines.append("What is there was left: 'smd deploy' goes on, 'smd down' removes it.")
    return "\n".join(lines)


def farewell(stack: Stack, floating_ips: Mapping[Role, IPv4Address], api: str | None, away: str) -> list[str]:
    """What to do with a stack that is whole: call it, look after it, remove it.

    ``api``: why its scalers were not reached; None: they were. ``away``: the command that removes it.
    """
    port = "" if stack.sip.port == 5060 else f":{stack.sip.port}"
    public = floating_ips.get(Role.KAMAILIO)
    if public is None:
        lines = ["  call    from its own network only: it has no floating IP"]
    else:
        lines = [f"  call    sip:ROOM@{public}{port}"]
        if not made_up(stack.domain):
            lines.append(f"          sip:ROOM@{stack.domain} when its DNS leads there")
    if scaler := floating_ips.get(Role.SCALER):
        lines.append(f"  API     https://{scaler}:{API_PORT}")
    if api is None:
        lines.append("  look    ./smd status, ./smd watch, ./smd events")
        lines.append("  try     ./smd failover kamailio")
    else:
        lines.append(f"  look    its scalers were not reached from here: {api}")
    lines.append(f"  remove  {away}")
    return lines
