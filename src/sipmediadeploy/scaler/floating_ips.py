"""Where floating IPs belong, and what to do about one that is elsewhere. Pure.

A floating IP is mapped to its pool's service address for good, and VRRP moves that. Where the provider
allows no service addresses the floating IP itself is mapped to one replica, and to another one when that
fails (``reassociate``). Callers that keep their port then stay with the old replica for as long as the
cloud's NAT remembers them: that is the limit of such clouds.

That of the scalers' API is for operators, whose connections are short: it is made by the leader, and
mapped to who leads. Nothing else waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sipmediadeploy.providers.base import SERVICE_ADDRESS, FloatingIp
from sipmediadeploy.scaler.model import Action, Condition, Memory, Observation, Problem, Target
from sipmediadeploy.scaler.pool import Member, Pool
from sipmediadeploy.stack import Role


def plan_floating_ips(
    target: Target, observation: Observation, pools: Mapping[Role, Pool], memory: Memory
) -> tuple[list[Action], list[Problem]]:
    """The mappings to make, and what to report."""
    actions: list[Action] = []
    problems: list[Problem] = []
    if target.api_floating_ip and all(ip.role is not Role.SCALER for ip in observation.floating_ips):
        text = "the scalers' API has no floating IP yet"
        problems.append(Problem(text, text))
        actions += _make_for_the_api(pools[Role.SCALER])
    for ip in observation.floating_ips:
        if ip.role is Role.SCALER and not target.api_floating_ip:
            continue
        wanted, why = _wanted(target, pools[ip.role], ip)
        if wanted is None:
            about = f"{ip.address} of {ip.role} {_where(ip)}"
            problems.append(Problem(about, f"{about}: {why}"))
            continue
        if wanted == ip.mapped_to:
            continue
        about = f"{ip.address} of {ip.role} is mapped anew"
        problems.append(Problem(about, f"{about}: {why}"))
        last = memory.address_moved.get(ip.role)
        if last is not None and observation.now - last < target.timing.remap_again:
            continue
        actions += pools[ip.role].map_floating_ip(str(ip.address), wanted, why)
    return actions, problems


def _make_for_the_api(pool: Pool) -> list[Action]:
    own = _own(pool)
    return [] if own is None else pool.make_floating_ip(own, "for operators' commands from outside")


def _wanted(target: Target, pool: Pool, ip: FloatingIp) -> tuple[str | None, str]:
    """To what it is to be mapped, and why; None: there is nothing."""
    if pool.role is Role.SCALER:
        return _own(pool), f"{ip.address} {_where(ip)}, and {target.own_name} leads"
    if target.service_addresses:
        return SERVICE_ADDRESS, f"{ip.address} {_where(ip)}, not to the service address"
    return _replica_for(pool, ip)


def _own(pool: Pool) -> str | None:
    """The id of the scaler that plans, which leads."""
    own = (m.replica.record.id for m in pool.members if m.name == pool.target.own_name)
    return next(own, None)


def _where(ip: FloatingIp) -> str:
    return "is mapped to nothing" if ip.mapped_to is None else f"is mapped to {ip.mapped_to}"


def _replica_for(pool: Pool, ip: FloatingIp) -> tuple[str | None, str]:
    """The id of the replica to map it to, and why; None: there is none. Who has it keeps it while it can."""
    holder = next((m for m in pool.members if m.replica.record.id == ip.mapped_to), None)
    usable = [m for m in pool.of(Condition.USABLE) if not _is_lost(pool, m)]
    if holder is not None and holder in usable:
        return ip.mapped_to, ""
    if usable:
        best = min(usable, key=lambda m: (bool(m.outdated), m.replica.record.slot))
        return best.replica.record.id, _reason(pool, ip, holder)
    if holder is not None and not holder.bad:
        return ip.mapped_to, ""
    return None, "no replica could take it"


def _is_lost(pool: Pool, member: Member) -> bool:
    """Neither its agent nor its service answers: callers can't wait until it counts as silent."""
    return member.replica.probe.lost_for(pool.now) >= pool.target.timing.lost


def _reason(pool: Pool, ip: FloatingIp, holder: Member | None) -> str:
    if holder is None:
        return f"{ip.address} {_where(ip)}"
    if holder.condition is Condition.USABLE and _is_lost(pool, holder):
        return f"{holder.name} has it: {holder.replica.probe.silence}"
    return f"{holder.name} has it: {holder.why}"
