"""What to do for the gateways: as many as calls need, and none is deleted that may have a call. Pure.

A live gateway goes in three steps: drain (reversible), retire (it will take no call again), and delete once
it has no call left.
"""

from __future__ import annotations

from sipmediadeploy.scaler import policy
from sipmediadeploy.scaler.model import UNSEEN_ORDER_S, Action, Condition, Kind, Memory
from sipmediadeploy.scaler.pool import Member, Pool, named


def plan_gateways(pool: Pool, memory: Memory) -> tuple[list[Action], policy.Demand]:
    """The actions for the gateways, and the demand to remember."""
    wanted = pool.target.stack.pools.gateway
    usable = pool.of(Condition.USABLE)
    needed = policy.gateways_needed(wanted, sum(member.replica.calls for member in usable))
    demand = policy.remember(memory.demand, pool.now, needed, wanted.cooldown_s)
    returning = sum(pool.is_under_way(Kind.UNDRAIN, member) for member in pool.of(Condition.LEAVING))
    have = len(usable) + len(pool.of(Condition.BOOTING)) + pool.creating + returning
    kept = wanted.max
    if memory.started_at is not None and pool.now - memory.started_at >= wanted.cooldown_s:
        kept = max(policy.peak(demand), needed)
    actions: list[Action] = []
    if needed > have:
        actions += _more(pool, needed, have)
    elif returning == 0 and any(member.outdated for member in usable):
        actions += _replace_outdated(pool, usable, needed, have)
    elif have > kept:
        actions += _fewer(pool, usable, have - kept)
    undrained = {action.replica_id for action in actions if action.kind is Kind.UNDRAIN}
    for member in pool.members:
        if member.replica.record.id not in undrained:
            actions += _see_off(pool, member)
    return actions, demand


def _more(pool: Pool, needed: int, have: int) -> list[Action]:
    missing = needed - have
    actions: list[Action] = []
    for member in pool.of(Condition.LEAVING):
        status = member.replica.status
        reversible = member.leaving_for_scaler and not member.outdated and not (status and status.retired)
        # What it said before that may be older than an order to retire, which is forgotten then.
        heard = member.replica.probe.silent_for(pool.now) < UNSEEN_ORDER_S
        if heard and reversible and len(actions) < missing:
            actions += pool.order(Kind.UNDRAIN, member, "its places are needed again")
    bad = [member for member in pool.members if member.bad]
    reason = f"{needed} needed, {have} there" + (f" ({named(bad)})" if bad else "")
    return actions + pool.create(missing - len(actions), reason)


def _fewer(pool: Pool, usable: list[Member], extra: int) -> list[Action]:
    empty = [member for member in usable if member.replica.calls == 0]
    empty.sort(key=lambda member: -member.replica.record.slot)
    actions: list[Action] = []
    for member in empty[:extra]:
        actions += pool.order(Kind.DRAIN, member, f"{extra} more than needed since the cool-down began")
    return actions


def _replace_outdated(pool: Pool, usable: list[Member], needed: int, have: int) -> list[Action]:
    outdated = [member for member in usable if member.outdated]
    under_way = [member for member in pool.of(Condition.LEAVING) if member.outdated]
    if under_way or pool.creating or pool.of(Condition.BOOTING):
        return []
    first = min(outdated, key=lambda member: (member.replica.calls, -member.replica.record.slot))
    if have > needed:
        return pool.order(Kind.DRAIN, first, first.outdated)
    return pool.create(1, f"{first.name} is {first.outdated}")


def _see_off(pool: Pool, member: Member) -> list[Action]:
    match member.condition:
        case Condition.DEAD:
            return pool.order(Kind.DELETE, member, member.why)
        case Condition.SILENT:
            if member.replica.probe.lost_for(pool.now) >= pool.target.timing.delete_silent_gateway:
                return pool.order(Kind.DELETE, member, member.why)
        case Condition.FAILED:
            return _see_off_failed(pool, member)
        case Condition.LEAVING if member.leaving_for_scaler and member.replica.calls == 0:
            status = member.replica.status
            if status is not None and status.retired:
                return pool.order(Kind.DELETE, member, "retired, and has no call left")
            return pool.order(Kind.RETIRE, member, "drained")
        case _:
            pass
    return []


def _see_off_failed(pool: Pool, member: Member) -> list[Action]:
    probe, status = member.replica.probe, member.replica.status
    if status is None:
        return pool.order(Kind.DELETE, member, member.why)
    if status.drained_by is None:
        return pool.order(Kind.DRAIN, member, member.why)
    if status.calls:
        return []
    since = probe.failed_since
    if since is not None and pool.now - since >= pool.target.timing.delete_silent_gateway:
        return pool.order(Kind.DELETE, member, f"{member.why}; it has no call and does not retire")
    return pool.order(Kind.RETIRE, member, member.why)
