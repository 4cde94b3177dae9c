"""What to do for a pool with a constant number of replicas. Pure."""

from __future__ import annotations

from sipmediadeploy.scaler.model import Action, Condition, Kind
from sipmediadeploy.scaler.pool import Member, Pool, named


def plan_fixed_pool(pool: Pool) -> list[Action]:
    """Bring the pool to its number with up-to-date, working replicas, one step at a time."""
    bad = [member for member in pool.members if member.bad]
    present = [member for member in pool.members if not member.bad]
    actions = _fill(pool, present, bad)
    for member in bad:
        actions += _remove_bad(pool, member)
    if pool.of(Condition.BOOTING) or pool.creating or any(a.kind is Kind.CREATE for a in actions):
        return actions
    if len(present) > pool.limit:
        actions += _remove_one(pool, present)
    elif len(present) == pool.limit:
        actions += _replace_outdated(pool, present) or _undrain(pool, present)
    return actions


def _fill(pool: Pool, present: list[Member], bad: list[Member]) -> list[Action]:
    missing = pool.limit - len(present) - pool.creating
    reason = f"{len(present)} of {pool.limit} there" + (f" ({named(bad)})" if bad else "")
    return pool.create(missing, reason)


def _remove_bad(pool: Pool, member: Member) -> list[Action]:
    whole = len(pool.of(Condition.USABLE)) >= pool.limit
    in_the_way = not pool.free_slots()
    match member.condition:
        case Condition.DEAD:
            due = True
        case Condition.FAILED:
            due = whole or in_the_way or member.replica.probe.ready_at is None
        case _:
            silent = member.replica.probe.silent_for(pool.now)
            due = (whole or in_the_way) and silent >= pool.target.timing.delete_silent
    return pool.order(Kind.DELETE, member, member.why) if due else []


def _replace_outdated(pool: Pool, present: list[Member]) -> list[Action]:
    outdated = [m for m in present if m.outdated and m.name != pool.target.own_name]
    if not outdated:
        return []
    first = min(outdated, key=_leaves_first)
    reason = f"{first.name} is {first.outdated}"
    if pool.free_slots():
        return pool.create(1, reason)
    return pool.order(Kind.DELETE, first, f"{reason}, and there is no slot for a second one")


def _remove_one(pool: Pool, present: list[Member]) -> list[Action]:
    candidates = [member for member in present if member.name != pool.target.own_name]
    if not candidates:
        return []
    first = min(candidates, key=_leaves_first)
    reason = first.outdated or f"{len(present)} there, {pool.limit} wanted"
    if not first.active:
        return pool.order(Kind.DELETE, first, reason)
    if first.condition is Condition.LEAVING:
        return []
    return pool.order(Kind.DRAIN, first, f"{reason}; the address moves away first")


def _undrain(pool: Pool, present: list[Member]) -> list[Action]:
    actions: list[Action] = []
    for member in present:
        status = member.replica.status
        if member.leaving_for_scaler and not member.outdated and not (status and status.retired):
            actions += pool.order(Kind.UNDRAIN, member, "it is needed again")
    return actions


def _leaves_first(member: Member) -> tuple[bool, bool, bool, int]:
    return (
        not member.leaving_for_scaler,
        not member.outdated,
        member.active,
        -member.replica.record.slot,
    )
