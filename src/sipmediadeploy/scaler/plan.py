"""What to do next: a pure function of what is wanted, what was seen, what is under way and the time.

Nothing here has a clock, does I/O or logs; ``docs/decisions/0060-scaler-planning.md`` gives the reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from sipmediadeploy.protocol.agent import Gateway, Gateways, State
from sipmediadeploy.protocol.replica import GATEWAY_SIP_PORT
from sipmediadeploy.scaler.fixed_pool import plan_fixed_pool
from sipmediadeploy.scaler.floating_ips import plan_floating_ips
from sipmediadeploy.scaler.gateway_pool import plan_gateways
from sipmediadeploy.scaler.model import (
    SERVICE_ADDRESS_ROLES,
    Action,
    Condition,
    Kind,
    Memory,
    Observation,
    Plan,
    Problem,
    Replica,
    Target,
    Underway,
    condition,
    is_running,
)
from sipmediadeploy.scaler.pool import Member, Pool, view
from sipmediadeploy.stack import Role


def plan(
    target: Target,
    observation: Observation,
    underway: tuple[Underway, ...] = (),
    memory: Memory | None = None,
) -> Plan:
    """Decide what to do at ``observation.now``."""
    memory = memory or Memory()
    if memory.started_at is None:
        memory = replace(memory, started_at=observation.now)
    pools = {role: view(role, n, target, observation, underway, memory) for role, n in limits(target).items()}
    memory = replace(memory, flops=_forget_flops(memory, pools))
    trouble, address_problems = _addresses(target, observation, memory)
    memory = replace(memory, address_trouble=trouble, address_doubled=_doubled(target, observation, memory))
    problems = [*address_problems, *_pool_problems(pools)]
    actions = _gateway_lists(pools, underway)
    blind = blindness(target, observation)
    if blind is not None:
        idle = "nothing is created or deleted"
        return Plan(tuple(actions), memory, (Problem(idle, f"{idle}: {blind}"), *problems))
    mapped, ip_problems = plan_floating_ips(target, observation, pools, memory)
    actions += mapped
    problems += ip_problems
    moves = _move_deaf_addresses(pools, memory) if target.service_addresses else []
    if moves or mapped:
        moved = {action.role: observation.now for action in [*moves, *mapped]}
        memory = replace(memory, address_moved={**memory.address_moved, **moved})
        actions += moves
    for role, pool in pools.items():
        if role is Role.GATEWAY:
            more, demand = plan_gateways(pool, memory)
            memory = replace(memory, demand=demand)
        else:
            more = plan_fixed_pool(pool)
        memory = replace(memory, flops=_count_flops(memory, pool, more))
        actions += more
    if target.service_addresses:
        busy = {action.replica_id for action in actions if action.kind is not Kind.SET_GATEWAYS}
        actions += [a for a in _end_second_holders(pools, memory) if a.replica_id not in busy]
    return Plan(tuple(actions), memory, tuple(problems))


def limits(target: Target) -> dict[Role, int]:
    """By role: how many good replicas there may be (for fixed pools: are wanted)."""
    pools = target.stack.pools
    return {
        Role.CONFERENCE_DEMO: 1 if target.stack.demo else 0,
        Role.KAMAILIO: pools.kamailio.replicas,
        Role.COTURN: pools.coturn.replicas,
        Role.GATEWAY: pools.gateway.max,
        Role.SCALER: pools.scaler.replicas,
    }


def blindness(target: Target, observation: Observation) -> str | None:
    """Why the observer may be the broken part; None: what it sees can be acted upon."""
    timing, now = target.timing, observation.now
    if observation.inventory_at is None or now - observation.inventory_at > timing.inventory_stale:
        return f"the inventory can't be read: {observation.inventory_error or 'not read yet'}"
    if all(replica.name != target.own_name for replica in observation.replicas):
        return f"the inventory does not list {target.own_name}, this scaler itself"
    silent, known = silent_at_once(target, observation)
    if silent:
        return f"{silent} of {known} replicas are silent at once"
    return None


def silent_at_once(target: Target, observation: Observation) -> tuple[int, int]:
    """How many replicas are silent, and of how many, when that is most of them; else no silent ones."""
    known = [r for r in observation.replicas if r.name != target.own_name and is_running(r.record)]
    known = [r for r in known if r.probe.answered_at is not None]
    silent = [r for r in known if r.probe.silent_for(observation.now) >= target.timing.silent / 2]
    most = len(silent) >= 2 and 2 * len(silent) > len(known)
    return (len(silent) if most else 0), len(known)


def gateway_list(pool: Pool) -> Gateways:
    """The gateways as Kamailio is told of them; the term is not filled in.

    Those that take no new call are listed with no free place, since they may have calls.
    """
    listed = []
    for member in pool.members:
        if member.condition in (Condition.BOOTING, Condition.DEAD):
            continue
        status = member.replica.status
        free = 0
        if status and member.condition is Condition.USABLE and status.state in (State.READY, State.BUSY):
            free = max(status.capacity - status.calls, 0)
        address = member.replica.record.address
        listed.append(Gateway(name=member.name, address=address, port=GATEWAY_SIP_PORT, free=free))
    return Gateways(term=0, gateways=tuple(listed))


def _gateway_lists(pools: Mapping[Role, Pool], underway: tuple[Underway, ...]) -> list[Action]:
    wanted = gateway_list(pools[Role.GATEWAY])
    told = {u.action.replica_id for u in underway if u.action.kind is Kind.SET_GATEWAYS}
    actions = []
    for member in pools[Role.KAMAILIO].members:
        status, record = member.replica.status, member.replica.record
        answers = member.condition not in (Condition.SILENT, Condition.DEAD) and status is not None
        if not answers or record.id in told or status is None or status.gateways_revision == wanted.revision:
            continue
        free = sum(gateway.free for gateway in wanted.gateways)
        reason = f"{len(wanted.gateways)} gateways, {free} places free"
        actions.append(
            Action(
                Kind.SET_GATEWAYS,
                Role.KAMAILIO,
                member.name,
                reason,
                replica_id=record.id,
                gateways=wanted.gateways,
            )
        )
    return actions


def _addresses(
    target: Target, observation: Observation, memory: Memory
) -> tuple[dict[Role, float], list[Problem]]:
    """Since when each service address is not held by exactly one, and what to report of it."""
    trouble: dict[Role, float] = {}
    problems: list[Problem] = []
    for role in SERVICE_ADDRESS_ROLES if target.service_addresses else ():
        names = [
            r.name for r in observation.replicas if r.record.role is role and _holds(target, observation, r)
        ]
        silent = observation.address_silence.get(role, 0.0)
        if len(names) == 1:
            if silent >= target.timing.address:
                address, holds = f"the service address of {role}", f"and {names[0]} holds it"
                text = f"{address} has not answered for {silent:.0f} s, {holds}"
                problems.append(Problem(f"{address} does not answer, {holds}", text))
            continue
        since = memory.address_trouble.get(role, observation.now)
        trouble[role] = since
        if observation.now - since >= target.timing.address:
            who = "no replica holds" if not names else f"{' and '.join(names)} hold"
            text = f"{who} the service address of {role}"
            problems.append(Problem(text, text))
    return trouble, problems


def _doubled(target: Target, observation: Observation, memory: Memory) -> dict[Role, float]:
    holders = Counter(r.record.role for r in observation.replicas if _holds(target, observation, r))
    roles = [role for role in SERVICE_ADDRESS_ROLES if holders[role] > 1]
    return {role: memory.address_doubled.get(role, observation.now) for role in roles}


def _holds(target: Target, observation: Observation, replica: Replica) -> bool:
    what, _ = condition(replica, observation.now, target.timing)
    return replica.active and what not in (Condition.SILENT, Condition.DEAD)


def _end_second_holders(pools: Mapping[Role, Pool], memory: Memory) -> list[Action]:
    """Delete all but one of several replicas that hold the same service address; the pool makes others.

    Two that hear each other settle it in less than a second; these do not, and neither lets go while it hears
    nobody. Who has not just said so is no holder: it may be dead. The newest stays; if that is the deaf
    one, it goes next time.
    """
    actions: list[Action] = []
    for role in SERVICE_ADDRESS_ROLES:
        pool, since = pools[role], memory.address_doubled.get(role)
        if since is None or pool.now - since < pool.target.timing.address_moved:
            continue
        recent = pool.target.timing.silent / 2
        working = pool.of(Condition.USABLE, Condition.LEAVING)
        holders = [m for m in working if m.active and m.replica.probe.silent_for(pool.now) < recent]
        holders.sort(key=lambda m: m.replica.record.created_at)
        for member in holders[:-1]:
            reason = f"holds the service address beside {holders[-1].name}: they do not hear each other"
            actions += pool.order(Kind.DELETE, member, reason)
    return actions


def _move_deaf_addresses(pools: Mapping[Role, Pool], memory: Memory) -> list[Action]:
    """Move an address that has one holder, who says that he is well, and does not answer callers.

    When no address answers, the broken part is more likely here.
    """
    deaf = [pools[role] for role in SERVICE_ADDRESS_ROLES if _is_deaf(pools[role])]
    if len(deaf) != 1:
        return []
    (pool,) = deaf
    holders = [member for member in pool.of(Condition.USABLE) if member.active]
    others = [member for member in pool.of(Condition.USABLE) if not member.active]
    last = memory.address_moved.get(pool.role)
    lately = last is not None and pool.now - last < pool.target.timing.address_again
    if len(holders) != 1 or not others or lately:
        return []
    silent = pool.address_silence or 0.0
    reason = f"holds the service address, which has not answered for {silent:.0f} s"
    return pool.order(Kind.FAILOVER, holders[0], reason)


def _is_deaf(pool: Pool) -> bool:
    silent = pool.address_silence
    return silent is not None and silent >= pool.target.timing.address_moved


def _pool_problems(pools: Mapping[Role, Pool]) -> list[Problem]:
    members = [member for pool in pools.values() for member in pool.members]
    return [_problem_of(member) for member in members if member.bad] + [
        Problem(f"{member.name}: {warning.partition(':')[0]}", f"{member.name}: {warning}")
        for member in members
        if member.replica.probe.status is not None
        for warning in member.replica.probe.status.warnings
    ]


def _problem_of(member: Member) -> Problem:
    service = member.replica.probe.service if member.condition is Condition.SILENT else ""
    about = ", ".join(part for part in (f"{member.name}: {member.condition}", service) if part)
    return Problem(about, f"{member.name}: {member.why}")


def _forget_flops(memory: Memory, pools: Mapping[Role, Pool]) -> dict[Role, tuple[int, float]]:
    return {
        role: (count, last)
        for role, (count, last) in memory.flops.items()
        if not any((member.replica.probe.ready_at or 0.0) > last for member in pools[role].members)
    }


def _count_flops(memory: Memory, pool: Pool, actions: list[Action]) -> dict[Role, tuple[int, float]]:
    deleted = {action.replica_id for action in actions if action.kind is Kind.DELETE}
    gone = [m.replica for m in pool.members if m.replica.record.id in deleted and m.bad]
    flops = dict(memory.flops)
    if any(replica.probe.seen_new and replica.probe.ready_at is None for replica in gone):
        count, _ = flops.get(pool.role, (0, 0.0))
        flops[pool.role] = (min(count + 1, 16), pool.now)
    return flops
