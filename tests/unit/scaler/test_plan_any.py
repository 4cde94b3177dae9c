"""Whatever is observed: planning raises nothing, breaks no promise, and asks for nothing twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.scaler.model import (
    MAX_CREATIONS,
    SURGE,
    Action,
    Kind,
    Memory,
    Observation,
    Probe,
    Replica,
    Target,
    Timing,
    Underway,
)
from sipmediadeploy.scaler.plan import limits, plan
from sipmediadeploy.stack import Role, parse_stack

NOW = 10_000.0
STACK = parse_stack("name: demo\ndomain: sip.test\npools: {gateway: {min: 1, max: 4, calls: 2, spare: 2}}")
SLOTS = 6
HASHES = {(role, slot): "current" for role in Role for slot in range(SLOTS)}
TARGET = Target(STACK, "v1", HASHES, "demo-scaler-0")
TIMING = Timing()
TIMES_AGO = [0.5, 1.0, 4.0, 6.0, 20.0, 70.0, 95.0, 300.0, 700.0]
AGO = st.sampled_from(TIMES_AGO)
BEFORE = st.sampled_from([*[None] * len(TIMES_AGO), *(NOW - ago for ago in TIMES_AGO)])
"""Never, as often as not."""

# Made once: a strategy that is made for each draw costs more than the draw.
ANSWERED = st.sampled_from([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 4.0, 6.0, 700.0, None])
NUMBER, CALLS, TERM = st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)
DRAINED_BY = st.sampled_from([None, None, "scaler", "operator"])
STATE = st.sampled_from([State.FAILED, State.BOOTING, State.READY, State.BUSY])
STATE_WITH_CALLS = st.sampled_from([State.FAILED, State.DRAINING])
STATE_WITHOUT = st.sampled_from([State.FAILED, State.DRAINED])
REVISION = st.sampled_from([None, "0123456789abcdef"])
LIFE = st.sampled_from(list(Life))
HASH, VERSION = st.sampled_from(["current", "current", "old"]), st.sampled_from(["v1", "v1", "v0"])
ERROR = st.sampled_from(["", "no answer within 1 s"])
YES, PERHAPS = st.booleans(), st.sampled_from([None, None, False, True])
READ = st.sampled_from([1.0, 1.0, 1.0, 1.0, 20.0, None])
TAKEN = st.sets(st.integers(0, SLOTS - 1), max_size=5)


def draw_replica(draw: st.DrawFn, role: Role, slot: int) -> Replica:
    name = f"demo-{role}-{draw(NUMBER) * SLOTS + slot}"
    first_seen = NOW - draw(AGO)
    answered = draw(ANSWERED)
    answered_at = None if answered is None else max(NOW - answered, first_seen)
    calls = draw(CALLS) if role is Role.GATEWAY else 0
    drained_by = draw(DRAINED_BY)
    states = STATE
    if drained_by is not None:
        states = STATE_WITH_CALLS if calls else STATE_WITHOUT
    status = Status(
        name=name,
        role=role,
        state=draw(states),
        reason="says so",
        calls=calls,
        capacity=2 if role is Role.GATEWAY else 0,
        active=draw(YES) if role in (Role.KAMAILIO, Role.COTURN) else None,
        drained_by=drained_by,
        retired=drained_by is not None and draw(YES),
        version="v1",
        config_hash="current",
        uptime_s=1.0,
        term=draw(TERM),
        gateways_revision=draw(REVISION),
    )
    record = ReplicaRecord(
        id=f"id-{role}-{slot}",
        name=name,
        role=role,
        slot=slot,
        address=IPv4Address(f"172.30.{list(Role).index(role)}.{slot + 1}"),
        life=draw(LIFE),
        created_at=0.0,
        config_hash=draw(HASH),
        version=draw(VERSION),
    )
    served_at = draw(BEFORE)
    probe = Probe(
        first_seen=first_seen,
        seen_new=draw(YES),
        answered_at=answered_at,
        status=status if answered_at is not None else None,
        ready_at=first_seen if draw(YES) else None,
        failed_since=draw(BEFORE),
        error=draw(ERROR),
        serves=draw(PERHAPS),
        served_at=None if served_at is None else max(served_at, first_seen),
    )
    return Replica(record, probe, draw(BEFORE))


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    found = [draw_replica(draw, role, slot) for role in Role for slot in draw(TAKEN)]
    own = draw_replica(draw, Role.SCALER, 0)
    own = replace(own, record=replace(own.record, name=TARGET.own_name, id="own"))
    named = {replica.name: replica for replica in (*found, own)}
    read = draw(READ)
    unwanted = draw(st.sets(st.sampled_from([replica.record.id for replica in named.values()])))
    return Observation(
        NOW,
        tuple(named.values()),
        None if read is None else NOW - read,
        unwanted=frozenset(unwanted),
        readable_since=draw(BEFORE),
    )


memories = st.builds(
    Memory,
    demand=st.just(()) | st.just(((NOW - 20, 3),)),
    started_at=st.none() | AGO.map(lambda ago: NOW - ago),
    address_doubled=st.dictionaries(
        st.sampled_from([Role.KAMAILIO, Role.COTURN]), AGO.map(lambda ago: NOW - ago)
    ),
)


@settings(max_examples=400)
@given(observations(), memories)
def test_no_promise_is_broken(observation: Observation, memory: Memory) -> None:
    result = plan(TARGET, observation, (), memory)
    by_id = {replica.record.id: replica for replica in observation.replicas}
    assert len({action.key for action in result.actions}) == len(result.actions), "asked for twice at once"
    for action in result.actions:
        assert action.reason
        assert action.name != TARGET.own_name
        if action.kind is Kind.DELETE and action.role is Role.GATEWAY:
            assert may_go(by_id[action.replica_id], memory), action
        if action.kind is Kind.UNDRAIN:
            status = by_id[action.replica_id].status
            assert status is not None
            assert status.drained_by == "scaler"
            assert not status.retired
    created = Counter(action.role for action in result.actions if action.kind is Kind.CREATE)
    there = Counter(replica.record.role for replica in observation.replicas)
    for role, number in created.items():
        assert number <= MAX_CREATIONS
        assert there[role] + number <= max(limits(TARGET)[role] + SURGE, there[role])
    taken = {(r.record.role, r.record.slot) for r in observation.replicas}
    assert not taken & {(a.role, a.slot) for a in result.actions if a.kind is Kind.CREATE}
    if observation.inventory_at is None or NOW - observation.inventory_at > TIMING.inventory_stale:
        assert {action.kind for action in result.actions} <= {Kind.SET_GATEWAYS}


def may_go(replica: Replica, memory: Memory) -> bool:
    """A gateway that may be deleted: dead, silent for long, never up, or retired and empty."""
    probe, status = replica.probe, replica.status
    if replica.stopped_since is not None and NOW - replica.stopped_since >= TIMING.stopped:
        return True
    silent = probe.silent_for(NOW)
    if probe.lost_for(NOW) >= TIMING.delete_silent_gateway:
        return True
    if status is None:
        led = memory.started_at is not None and memory.started_at <= probe.first_seen
        return probe.seen_new and led and silent >= TIMING.booting
    empty = status.calls == 0
    failed_long = probe.failed_since is not None and NOW - probe.failed_since >= TIMING.delete_silent_gateway
    return empty and (status.retired or (failed_long and status.drained_by is not None))


@settings(max_examples=300)
@given(observations(), memories)
def test_what_is_under_way_is_not_asked_for_again(observation: Observation, memory: Memory) -> None:
    first = plan(TARGET, observation, (), memory)
    again = plan(TARGET, observation, tuple(Underway(action) for action in first.actions), first.memory)
    assert not {a.key for a in first.actions} & {a.key for a in again.actions}
    assert [a for a in again.actions if a.kind is Kind.CREATE] == []


def applied(observation: Observation, actions: tuple[Action, ...]) -> Observation:
    """The world once creations and deletions have taken effect."""
    gone = {action.replica_id for action in actions if action.kind is Kind.DELETE}
    kept = [replica for replica in observation.replicas if replica.record.id not in gone]
    for action in actions:
        if action.kind is Kind.CREATE:
            record = ReplicaRecord(
                f"new-{action.name}",
                action.name,
                action.role,
                action.slot,
                IPv4Address(f"172.31.{list(Role).index(action.role)}.{action.slot + 1}"),
                Life.RUNNING,
                0.0,
                "current",
                "v1",
            )
            kept.append(Replica(record, Probe(first_seen=NOW, seen_new=True)))
    return Observation(NOW, tuple(kept), NOW, unwanted=observation.unwanted)


@settings(max_examples=300)
@given(observations(), memories)
def test_planning_again_and_again_comes_to_rest(observation: Observation, memory: Memory) -> None:
    for _ in range(12):
        result = plan(TARGET, observation, (), memory)
        lasting = tuple(a for a in result.actions if a.kind in (Kind.CREATE, Kind.DELETE))
        if not lasting:
            return
        observation, memory = applied(observation, lasting), result.memory
    raise AssertionError(f"still at it: {lasting}")
