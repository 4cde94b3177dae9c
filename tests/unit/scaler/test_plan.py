"""Single decisions of the scaler, as tables of what is seen and what is done."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import SERVICE_ADDRESS, FloatingIp, Life, ReplicaRecord
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.scaler import policy
from sipmediadeploy.scaler.main import usable_slots, wanted_hashes
from sipmediadeploy.scaler.model import (
    Action,
    Kind,
    Memory,
    Observation,
    Probe,
    Problem,
    Replica,
    Target,
    Underway,
)
from sipmediadeploy.scaler.plan import plan
from sipmediadeploy.stack import GatewayPool, Role, StackError, parse_stack

SUBNET = IPv4Network("172.30.9.0/24")
STACK = parse_stack(
    "name: demo\ndomain: sip.example.org\nconference: {url: 'wss://rooms.example.org/'}\n"
    "pools: {gateway: {min: 1, max: 4, calls: 2, spare: 1, cooldown_s: 60}}"
)
NOW = 10_000.0


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(STACK, "v1", wanted_hashes(STACK, SUBNET, Secrets(master="master"), "v1"), "demo-scaler-0")


def replica(target: Target, role: Role, slot: int, **changes: Any) -> Replica:
    """A replica that works; ``changes`` of its record, probe and status by field name."""
    name = changes.pop("name", f"demo-{role}-{slot}")
    record = ReplicaRecord(
        id=name,
        name=name,
        role=role,
        slot=slot,
        address=addresses.slot_address(SUBNET, role, slot),
        life=changes.pop("life", Life.RUNNING),
        created_at=0.0,
        config_hash=changes.pop("config_hash", target.hashes.get((role, slot), "none")),
        version=changes.pop("version", "v1"),
    )
    stopped_since = changes.pop("stopped_since", None)
    answered_at = changes.pop("answered_at", NOW - 0.5)
    probe = Probe(
        first_seen=changes.pop("first_seen", NOW - 1000),
        seen_new=changes.pop("seen_new", True),
        answered_at=answered_at,
        ready_at=changes.pop("ready_at", NOW - 990),
        failed_since=changes.pop("failed_since", None),
        error="",
    )
    pool_has_address = role in (Role.KAMAILIO, Role.COTURN)
    status = Status(
        name=name,
        role=role,
        state=changes.pop("state", State.READY),
        reason="as told",
        capacity=2 if role is Role.GATEWAY else 0,
        active=changes.pop("active", slot == 0) if pool_has_address else None,
        version="v1",
        config_hash="",
        uptime_s=1.0,
        **changes,
    )
    return Replica(record, replace(probe, status=status if answered_at is not None else None), stopped_since)


def whole(target: Target) -> dict[str, Replica]:
    """A stack in which all is well, but for the gateway lists."""
    slots = [(Role.KAMAILIO, 0), (Role.KAMAILIO, 1), (Role.COTURN, 0), (Role.COTURN, 1)]
    slots += [(Role.SCALER, 0), (Role.SCALER, 1), (Role.GATEWAY, 0)]
    return {r.name: r for r in (replica(target, role, slot) for role, slot in slots)}


def decide(target: Target, replicas: dict[str, Replica], **more: Any) -> list[str]:
    """The planned actions as 'kind name', without the gateway lists."""
    observation = Observation(NOW, tuple(replicas.values()), inventory_at=more.pop("inventory_at", NOW - 1))
    memory = more.pop("memory", Memory(started_at=0.0))
    result = plan(target, observation, more.pop("underway", ()), memory)
    return [f"{a.kind} {a.name}" for a in result.actions if a.kind is not Kind.SET_GATEWAYS]


def test_nothing_is_done_when_all_is_well(target: Target) -> None:
    assert decide(target, whole(target)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"state": State.FAILED, "failed_since": NOW - 2}, []),
        ({"state": State.FAILED, "failed_since": NOW - 6}, ["create demo-kamailio-2"]),
        ({"answered_at": NOW - 4}, []),
        ({"answered_at": NOW - 6}, ["create demo-kamailio-2"]),
        ({"life": Life.STOPPED, "stopped_since": NOW - 1}, []),
        (
            {"life": Life.STOPPED, "stopped_since": NOW - 3},
            ["create demo-kamailio-2", "delete demo-kamailio-1"],
        ),
        ({"answered_at": None, "first_seen": NOW - 50}, []),
        (
            {"answered_at": None, "ready_at": None, "first_seen": NOW - 91},
            ["create demo-kamailio-2", "delete demo-kamailio-1"],
        ),
        ({"config_hash": "other"}, ["create demo-kamailio-2"]),
        ({"version": "v0"}, ["create demo-kamailio-2"]),
    ],
)
def test_a_kamailio_that_does_not_do_its_job_is_replaced(
    target: Target, change: dict[str, Any], expected: list[str]
) -> None:
    replicas = whole(target)
    replicas["demo-kamailio-1"] = replica(target, Role.KAMAILIO, 1, **change)
    assert decide(target, replicas) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answered_at": NOW - 6, "calls": 1}, ["create demo-gateway-1"]),
        ({"answered_at": NOW - 599, "calls": 1}, ["create demo-gateway-1"]),
        ({"answered_at": NOW - 601, "calls": 1}, ["create demo-gateway-1", "delete demo-gateway-0"]),
        ({"state": State.FAILED, "failed_since": NOW - 6}, ["create demo-gateway-1", "drain demo-gateway-0"]),
        (
            {"state": State.FAILED, "failed_since": NOW - 6, "drained_by": "scaler", "calls": 1},
            ["create demo-gateway-1"],
        ),
        (
            {"state": State.FAILED, "failed_since": NOW - 6, "drained_by": "scaler"},
            ["create demo-gateway-1", "retire demo-gateway-0"],
        ),
        (
            {"state": State.DRAINED, "drained_by": "scaler", "retired": True},
            ["create demo-gateway-1", "delete demo-gateway-0"],
        ),
        (
            {"state": State.DRAINING, "drained_by": "scaler", "retired": True, "calls": 1},
            ["create demo-gateway-1"],
        ),
        ({"state": State.DRAINED, "drained_by": "scaler"}, ["undrain demo-gateway-0"]),
        # It may have been retired since: the order is forgotten after three seconds (simulated, seed 2054).
        (
            {"state": State.DRAINED, "drained_by": "scaler", "answered_at": NOW - 3.2},
            ["create demo-gateway-1", "retire demo-gateway-0"],
        ),
        ({"state": State.DRAINED, "drained_by": "operator"}, ["create demo-gateway-1"]),
        (
            {"state": State.FAILED, "failed_since": NOW - 6, "ready_at": None},
            ["create demo-gateway-1", "drain demo-gateway-0"],
        ),
        ({"calls": 1}, []),
        ({"calls": 2}, ["create demo-gateway-1"]),
        ({"config_hash": "other"}, ["create demo-gateway-1"]),
    ],
)
def test_what_is_done_about_a_gateway(target: Target, change: dict[str, Any], expected: list[str]) -> None:
    replicas = whole(target)
    replicas["demo-gateway-0"] = replica(target, Role.GATEWAY, 0, **change)
    assert decide(target, replicas) == expected


def test_a_gateway_that_is_being_undrained_counts_as_there(target: Target) -> None:
    drained = {"state": State.DRAINED, "drained_by": "scaler"}
    replicas = whole(target) | {"demo-gateway-0": replica(target, Role.GATEWAY, 0, **drained)}
    undrain = Action(Kind.UNDRAIN, Role.GATEWAY, "demo-gateway-0", "needed", replica_id="demo-gateway-0")
    assert decide(target, replicas, underway=(Underway(undrain),)) == []
    assert decide(target, replicas, underway=(Underway(undrain, retry_at=NOW + 1),)) == [
        "create demo-gateway-1"
    ]


def test_a_silent_gateway_is_deleted_late_and_not_while_its_service_answers(target: Target) -> None:
    silent = replica(target, Role.GATEWAY, 0, answered_at=NOW - 700, state=State.BUSY, calls=1)
    there = whole(target) | {"demo-gateway-1": replica(target, Role.GATEWAY, 1)}
    assert decide(target, there | {"demo-gateway-0": silent}) == ["delete demo-gateway-0"]
    serving = replace(silent, probe=replace(silent.probe, serves=True, served_at=NOW - 1))
    assert decide(target, there | {"demo-gateway-0": serving}) == []
    served = replace(silent, probe=replace(silent.probe, serves=False, served_at=NOW - 100))
    assert decide(target, there | {"demo-gateway-0": served}) == []


def test_of_two_holders_that_do_not_settle_it_one_is_deleted(target: Target) -> None:
    two = whole(target) | {"demo-kamailio-1": replica(target, Role.KAMAILIO, 1, active=True)}
    two["demo-kamailio-1"] = replace(
        two["demo-kamailio-1"], record=replace(two["demo-kamailio-1"].record, created_at=1.0)
    )
    for since, expected in ((NOW - 1, []), (NOW - 6, ["delete demo-kamailio-0"])):
        memory = Memory(started_at=0.0, address_doubled={Role.KAMAILIO: since})
        assert decide(target, two, memory=memory) == expected
    two["demo-kamailio-1"] = replica(target, Role.KAMAILIO, 1, active=True, answered_at=NOW - 4)
    assert decide(target, two, memory=memory) == [], "what it said four seconds ago may be over"


CLOUD = IPv4Address("198.51.100.1")


def mapped(target: Target, replicas: dict[str, Replica], to: str | None, **more: Any) -> tuple[str, ...]:
    """To what Kamailio's floating IP is mapped anew, which is mapped to ``to`` now."""
    ip = FloatingIp(Role.KAMAILIO, CLOUD, to)
    seen = Observation(NOW, tuple(replicas.values()), inventory_at=NOW - 1, floating_ips=(ip,))
    result = plan(target, seen, more.pop("underway", ()), more.pop("memory", Memory(started_at=0.0)))
    return tuple(a.mapped_to for a in result.actions if a.kind is Kind.MAP_FLOATING_IP)


def test_a_floating_ip_that_was_moved_by_hand_is_mapped_to_the_service_address_again(target: Target) -> None:
    there = whole(target)
    assert mapped(target, there, SERVICE_ADDRESS) == ()
    assert mapped(target, there, None) == (SERVICE_ADDRESS,)
    assert mapped(target, there, "somebody's port") == (SERVICE_ADDRESS,)
    again = Action(Kind.MAP_FLOATING_IP, Role.KAMAILIO, str(CLOUD), "why", mapped_to=SERVICE_ADDRESS)
    assert mapped(target, there, None, underway=(Underway(again),)) == ()
    lately = Memory(started_at=0.0, address_moved={Role.KAMAILIO: NOW - 5})
    assert mapped(target, there, None, memory=lately) == ()


@pytest.mark.parametrize(
    ("first", "second", "to", "expected"),
    [
        ({}, {}, "demo-kamailio-1", ()),  # who has it keeps it
        ({}, {}, None, ("demo-kamailio-0",)),
        ({}, {}, "somebody's port", ("demo-kamailio-0",)),
        ({}, {"answered_at": NOW - 1.5}, "demo-kamailio-1", ()),
        ({}, {"answered_at": NOW - 2.5}, "demo-kamailio-1", ("demo-kamailio-0",)),
        ({}, {"state": State.FAILED, "failed_since": NOW - 6}, "demo-kamailio-1", ("demo-kamailio-0",)),
        ({}, {"stopped_since": NOW - 3}, "demo-kamailio-1", ("demo-kamailio-0",)),
        ({}, {"state": State.DRAINING, "drained_by": "operator"}, "demo-kamailio-1", ("demo-kamailio-0",)),
        ({"answered_at": NOW - 2.5}, {"answered_at": NOW - 2.5}, "demo-kamailio-1", ()),
    ],
)
def test_where_no_address_moves_the_floating_ip_does(
    target: Target, first: dict[str, Any], second: dict[str, Any], to: str | None, expected: tuple[str, ...]
) -> None:
    cloud = replace(target, service_addresses=False)
    there = whole(target) | {
        "demo-kamailio-0": replica(target, Role.KAMAILIO, 0, **first),
        "demo-kamailio-1": replica(target, Role.KAMAILIO, 1, **second),
    }
    assert mapped(cloud, there, to) == expected


def test_a_holder_whose_service_answers_keeps_the_floating_ip(target: Target) -> None:
    cloud = replace(target, service_addresses=False)
    holder = replica(target, Role.KAMAILIO, 0, answered_at=NOW - 3)
    serving = replace(holder, probe=replace(holder.probe, serves=True, served_at=NOW - 0.5))
    assert mapped(cloud, whole(target) | {"demo-kamailio-0": serving}, "demo-kamailio-0") == ()


def for_the_api(target: Target, to: str | None, **more: Any) -> list[str]:
    """What is done about the floating IP of the scalers' API, mapped to ``to`` ('': there is none)."""
    ips = () if to == "" else (FloatingIp(Role.SCALER, CLOUD, to),)
    seen = Observation(NOW, tuple(whole(target).values()), inventory_at=NOW - 1, floating_ips=ips)
    result = plan(target, seen, more.pop("underway", ()), more.pop("memory", Memory(started_at=0.0)))
    floating = (Kind.MAP_FLOATING_IP, Kind.MAKE_FLOATING_IP)
    return [f"{a.kind} {a.mapped_to}" for a in result.actions if a.kind in floating]


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("", ["make_floating_ip demo-scaler-0"]),
        ("demo-scaler-0", []),
        ("demo-scaler-1", ["map_floating_ip demo-scaler-0"]),
        ("somebody's port", ["map_floating_ip demo-scaler-0"]),
        (None, ["map_floating_ip demo-scaler-0"]),
    ],
)
@pytest.mark.parametrize("service_addresses", [True, False])
def test_the_floating_ip_of_the_api_is_mapped_to_who_leads(
    target: Target, to: str | None, expected: list[str], service_addresses: bool
) -> None:
    cloud = replace(target, api_floating_ip=True, service_addresses=service_addresses)
    assert for_the_api(cloud, to) == expected
    under_way = [
        Action(Kind.MAP_FLOATING_IP, Role.SCALER, str(CLOUD), "", mapped_to="x"),
        Action(Kind.MAKE_FLOATING_IP, Role.SCALER, "floating IP of scaler", "", mapped_to="x"),
    ]
    assert for_the_api(cloud, to, underway=tuple(Underway(action) for action in under_way)) == []
    lately = Memory(started_at=0.0, address_moved={Role.SCALER: NOW - 5})
    if to:
        assert for_the_api(cloud, to, memory=lately) == [], "two scalers do not draw it to and fro"
    assert for_the_api(replace(cloud, api_floating_ip=False), to) == [], "openstack.api: none"


def test_replicas_are_spread_over_zones(target: Target) -> None:
    cloud = replace(target, zones=("east", "north", "west"))
    there = whole(target)
    for name, zone in (("demo-kamailio-0", "east"), ("demo-coturn-0", "north")):
        there[name] = replace(there[name], record=replace(there[name].record, zone=zone))
    del there["demo-kamailio-1"], there["demo-coturn-1"]
    there["demo-gateway-0"] = replica(target, Role.GATEWAY, 0, calls=2, state=State.BUSY)
    seen = Observation(NOW, tuple(there.values()), inventory_at=NOW - 1)
    made = plan(cloud, seen, (), Memory(started_at=0.0)).actions
    zones = {a.role: a.zone for a in made if a.kind is Kind.CREATE}
    assert zones[Role.KAMAILIO] == "north"
    assert zones[Role.COTURN] == "east"
    kamailio = next(a for a in made if a.role is Role.KAMAILIO and a.kind is Kind.CREATE)
    del there["demo-kamailio-0"]
    seen = Observation(NOW, tuple(there.values()), inventory_at=NOW - 1)
    more = plan(cloud, seen, (Underway(kamailio),), Memory(started_at=0.0)).actions
    assert [a.zone for a in more if a.role is Role.KAMAILIO and a.kind is Kind.CREATE] == ["east"]


def test_a_spare_empty_gateway_is_drained_after_the_cool_down_only(target: Target) -> None:
    replicas = whole(target) | {"demo-gateway-1": replica(target, Role.GATEWAY, 1)}
    assert decide(target, replicas, memory=Memory(started_at=NOW - 30)) == []
    assert decide(target, replicas, memory=Memory(started_at=0.0, demand=((NOW - 30, 2),))) == []
    assert decide(target, replicas) == ["drain demo-gateway-1"]


def test_a_gateway_with_calls_is_never_chosen_to_leave(target: Target) -> None:
    replicas = whole(target)
    for slot in (0, 1, 2):
        replicas[f"demo-gateway-{slot}"] = replica(target, Role.GATEWAY, slot, calls=int(slot != 1))
    assert decide(target, replicas) == ["drain demo-gateway-1"]


def test_what_is_under_way_is_not_asked_for_again(target: Target) -> None:
    replicas = whole(target)
    del replicas["demo-kamailio-1"]
    creation = Action(Kind.CREATE, Role.KAMAILIO, "demo-kamailio-1", "", slot=1)
    assert decide(target, replicas) == ["create demo-kamailio-1"]
    assert decide(target, replicas, underway=(Underway(creation),)) == []
    assert decide(target, replicas, underway=(Underway(creation, retry_at=NOW + 9),)) == []


def test_an_old_inventory_is_no_ground_for_acting(target: Target) -> None:
    replicas = whole(target)
    del replicas["demo-coturn-1"]
    assert decide(target, replicas, inventory_at=NOW - 20) == []
    assert decide(target, replicas, inventory_at=None) == []


def test_an_inventory_without_this_scaler_is_not_believed(target: Target) -> None:
    assert decide(target, {}) == []


def test_one_that_the_provider_gave_up_and_that_works_is_replaced_in_order(target: Target) -> None:
    replicas = whole(target)
    replicas["demo-gateway-0"] = replica(target, Role.GATEWAY, 0, life=Life.FAILED, calls=1)
    assert decide(target, replicas) == ["create demo-gateway-1"]
    replicas["demo-gateway-1"] = replica(target, Role.GATEWAY, 1)
    assert decide(target, replicas) == ["drain demo-gateway-0"]


def test_the_active_outdated_replica_hands_the_address_over_before_it_goes(target: Target) -> None:
    replicas = whole(target)
    replicas["demo-coturn-0"] = replica(target, Role.COTURN, 0, version="v0")
    replicas["demo-coturn-2"] = replica(target, Role.COTURN, 2)
    assert decide(target, replicas) == ["drain demo-coturn-0"]
    drained = {"state": State.DRAINED, "drained_by": "scaler", "version": "v0"}
    replicas["demo-coturn-0"] = replica(target, Role.COTURN, 0, active=True, **drained)
    assert decide(target, replicas) == []
    replicas["demo-coturn-0"] = replica(target, Role.COTURN, 0, active=False, **drained)
    assert decide(target, replicas) == ["delete demo-coturn-0"]


def test_a_new_number_is_greater_than_every_one_in_use(target: Target) -> None:
    replicas = whole(target)
    del replicas["demo-kamailio-0"]
    replicas["demo-kamailio-9"] = replica(target, Role.KAMAILIO, 1, name="demo-kamailio-9")
    del replicas["demo-kamailio-1"]
    assert decide(target, replicas) == ["create demo-kamailio-10"]


def test_kamailio_is_told_of_free_places_and_of_gateways_that_may_have_calls(target: Target) -> None:
    replicas = whole(target)
    replicas["demo-gateway-0"] = replica(target, Role.GATEWAY, 0, calls=1)
    replicas["demo-gateway-1"] = replica(target, Role.GATEWAY, 1, answered_at=NOW - 9)
    replicas["demo-gateway-2"] = replica(target, Role.GATEWAY, 2, state=State.DRAINING, calls=1)
    starting = {"state": State.BOOTING, "ready_at": None, "first_seen": NOW - 5}
    replicas["demo-gateway-3"] = replica(target, Role.GATEWAY, 3, **starting)
    observation = Observation(NOW, tuple(replicas.values()), NOW)
    told = [a for a in plan(target, observation).actions if a.kind is Kind.SET_GATEWAYS]
    assert [a.name for a in told] == ["demo-kamailio-0", "demo-kamailio-1"]
    free = {gateway.name: gateway.free for gateway in told[0].gateways}
    assert free == {"demo-gateway-0": 1, "demo-gateway-1": 0, "demo-gateway-2": 0}


@pytest.mark.parametrize(
    ("calls", "needed"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (7, 4), (8, 4), (99, 4)]
)
def test_the_number_of_gateways_keeps_places_free_within_its_bounds(calls: int, needed: int) -> None:
    assert policy.gateways_needed(GatewayPool(min=1, max=4, calls=2, spare=1), calls) == needed


@pytest.mark.parametrize(("calls", "needed"), [(0, 1), (1, 1), (2, 2), (4, 3), (8, 5), (100, 63)])
def test_a_share_of_the_calls_can_be_kept_free(calls: int, needed: int) -> None:
    assert policy.gateways_needed(GatewayPool(min=1, max=100, calls=2, spare="25%"), calls) == needed


def test_the_demand_remembers_its_peak_for_the_window() -> None:
    demand: policy.Demand = ()
    for at, needed in [(0.0, 2), (10.0, 4), (20.0, 3), (30.0, 1)]:
        demand = policy.remember(demand, at, needed, 50.0)
    assert policy.peak(demand) == 4
    assert policy.peak(policy.remember(demand, 65.0, 1, 50.0)) == 3
    assert policy.peak(policy.remember(demand, 100.0, 1, 50.0)) == 1


def test_gateways_that_do_not_fit_the_ports_of_one_machine_are_refused() -> None:
    text = "name: demo\ndomain: x.example.org\npools: {gateway: {max: 100, calls: 64}}"
    with pytest.raises(StackError, match="at most 78 gateways"):
        usable_slots(parse_stack(text))


def problems_of(target: Target, replicas: dict[str, Replica], **seen: Any) -> list[Problem]:
    observation = Observation(NOW, tuple(replicas.values()), **({"inventory_at": NOW - 1} | seen))
    return list(plan(target, observation, (), Memory(started_at=0.0)).problems)


@pytest.mark.parametrize(
    "details",
    [
        [{"address_silence": {Role.KAMAILIO: seconds}} for seconds in (4.0, 9.0)],
        [{"inventory_at": NOW - 60, "inventory_error": why} for why in ("503", "no answer (11 s)")],
        [
            {"floating_ips": (FloatingIp(Role.COTURN, IPv4Address("198.51.100.7"), to),)}
            for to in (None, "another port")
        ],
    ],
)
def test_a_problem_is_known_by_one_name_while_its_details_change(
    target: Target, details: list[dict[str, Any]]
) -> None:
    (first,), (second,) = (problems_of(target, whole(target), **one) for one in details)
    assert first.about == second.about
    assert first.text != second.text


def test_what_a_replica_warns_of_is_a_problem_with_one_name(target: Target) -> None:
    def warned(text: str) -> Problem:
        one = replica(target, Role.KAMAILIO, 0, active=True)
        assert one.probe.status is not None
        status = one.probe.status.model_copy(update={"warnings": (text,)})
        replicas = whole(target) | {one.name: replace(one, probe=replace(one.probe, status=status))}
        (problem,) = problems_of(target, replicas)
        return problem

    first, second = (warned(f"the service address comes and goes: {n} times") for n in (5, 6))
    assert first.about == second.about == "demo-kamailio-0: the service address comes and goes"
    assert second.text.endswith("6 times")


@pytest.mark.parametrize("serves", [None, True, False])
def test_a_silent_replica_is_one_problem_whatever_its_silence_is_made_of(
    target: Target, serves: bool | None
) -> None:
    def silent(error: str) -> Problem:
        one = replica(target, Role.GATEWAY, 0, answered_at=NOW - 60)
        replicas = whole(target) | {
            one.name: replace(one, probe=replace(one.probe, error=error, serves=serves))
        }
        (problem,) = problems_of(target, replicas)
        return problem

    refused, late = silent("Cannot connect (111) (at 10.0.0.9)"), silent("no answer within 1 s")
    assert refused.about == late.about
    assert refused.about.startswith("demo-gateway-0: silent")
    assert ("its service" in refused.about) == (serves is not None)
    assert "(111)" in refused.text
    assert "within 1 s" in late.text


def test_a_scaler_that_only_watches_does_not_count_what_it_would_have_deleted(target: Target) -> None:
    replicas = whole(target)
    never_came_up = {"life": Life.STOPPED, "stopped_since": NOW - 3, "answered_at": None, "ready_at": None}
    replicas["demo-gateway-0"] = replica(target, Role.GATEWAY, 0, **never_came_up)
    observation = Observation(NOW, tuple(replicas.values()), inventory_at=NOW - 1)
    before = Memory(started_at=0.0)
    acting = plan(target, observation, (), before)
    assert acting.actions
    assert acting.memory.flops == {Role.GATEWAY: (1, NOW)}
    watching = acting.watched_only(before)
    assert (watching.actions, watching.memory) == ((), replace(acting.memory, flops={}))
    assert watching.problems == acting.problems
