"""The scalers' promises, checked at every step of seeded histories full of faults, in virtual time."""

from __future__ import annotations

import asyncio
import os

import pytest

from sipmediadeploy.providers.base import SERVICE_ADDRESS
from sipmediadeploy.stack import Role
from tests.simulation import soak
from tests.simulation.clock import run, virtual_loop
from tests.simulation.history import history
from tests.simulation.theatre import Theatre, stack
from tests.simulation.world import API, BrokenPromise, Machine

STRIDE = 23
"""Every so many-eth step of the first scaler is one at which it dies."""
SEEDS = int(os.environ.get("SMD_SIMULATION_SEEDS", "30"))
"""``tests/run all`` has 500 of them."""


@pytest.mark.promise(1, 2, 4, 5, 6)
@pytest.mark.timeout(1800)
def test_every_promise_holds_in_histories_of_faults() -> None:
    assert soak.main(["--seeds", str(SEEDS)]) == 0, (
        "see above: python -m tests.simulation.soak replays a seed"
    )


def test_a_promise_broken_in_the_world_is_noticed() -> None:
    """The check itself can fail: deleting a gateway with a call is an error."""

    async def scene() -> None:
        current = Theatre(stack(), 0)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            gateway = world.of(Role.GATEWAY)[0]
            gateway.calls = 1
            with pytest.raises(BrokenPromise):
                await world.delete(gateway.record.id)
            assert len(world.broken) == 1
            world.broken.clear()

    run(scene())


@pytest.mark.promise(1, 5)
def test_a_silent_gateway_is_replaced_soon_and_keeps_its_calls_for_ten_minutes() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 1)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            silent = world.of(Role.GATEWAY)[0]
            silent.calls, silent.reachable = 1, False
            await asyncio.sleep(20)
            assert any(m.takes_calls(world.now) for m in world.of(Role.GATEWAY) if m is not silent)
            await asyncio.sleep(500)
            assert silent.record.id in world.machines
            silent.calls = 0
            await asyncio.sleep(120)
            assert silent.record.id not in world.machines

    run(scene())


@pytest.mark.promise(1)
def test_a_gateway_whose_service_answers_without_its_agent_is_replaced_and_not_deleted() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 1)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            lost = world.of(Role.GATEWAY)[0]
            lost.calls, lost.agent_dead = 1, True
            await asyncio.sleep(20)
            assert any(m.takes_calls(world.now) for m in world.of(Role.GATEWAY) if m is not lost)
            assert any("its service answers" in problem.text for problem in current.report.problems)
            await asyncio.sleep(1000)
            assert lost.record.id in world.machines, "it may have calls"
            lost.reachable = False
            lost.calls = 0
            await asyncio.sleep(650)
            assert lost.record.id not in world.machines

    run(scene())


@pytest.mark.promise(3)
def test_a_floating_ip_that_somebody_detaches_is_mapped_again() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 17)
        theatre.world.floating[Role.KAMAILIO] = SERVICE_ADDRESS
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            for hand in (None, "a port that an operator took"):
                await theatre.live(12)
                world.floating[Role.KAMAILIO] = hand
                await theatre.live(8)
                assert world.floating[Role.KAMAILIO] == SERVICE_ADDRESS

    run(scene())


@pytest.mark.promise(3)
def test_where_no_address_moves_the_floating_ip_follows_the_working_replica() -> None:
    async def scene(seed: int) -> None:
        theatre = Theatre(stack(), seed)
        world = theatre.world
        world.service_addresses, world.zones = False, ("east", "west")
        world.floating[Role.KAMAILIO] = None
        async with theatre.going():
            await theatre.until("the stack comes up", 60)
            for kill in (world.stop, world.vanish, _silence):
                await theatre.live(40)
                kamailios = {m.record.id: m for m in world.of(Role.KAMAILIO)}
                assert {m.record.zone for m in kamailios.values()} == {"east", "west"}
                holder = kamailios[world.floating[Role.KAMAILIO] or ""]
                kill(holder)
                await theatre.live(8)
                now = world.floating[Role.KAMAILIO]
                assert now != holder.record.id
                assert world.machines[now or ""].running
                await theatre.live(20)
                assert world.floating[Role.KAMAILIO] == now, "it is not moved to and fro"
                holder.reachable = True
                await theatre.live(20)
                assert world.floating[Role.KAMAILIO] == now, "who comes back stands by"

    for seed in range(5):
        run(scene(seed))


def test_the_floating_ip_of_the_api_follows_the_leader() -> None:
    async def scene(seed: int) -> None:
        theatre = Theatre(stack(), seed)
        theatre.world.api_floating_ip = True
        async with theatre.going() as world:
            await theatre.until("the stack comes up, and its API is reached", 60)
            for kill in (world.stop, world.vanish):
                (leader,) = theatre.leaders()
                kill(leader.machine)
                await theatre.until("the API is reached again", 60)
                assert world.floating[Role.SCALER] != leader.machine.record.id

    for seed in range(4):
        run(scene(seed))


def test_a_cloud_that_has_no_floating_ip_left_for_the_api_keeps_nothing_from_being_healed() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 3)
        world = theatre.world
        world.api_floating_ip = world.no_floating_ip_is_left = True
        async with theatre.going():
            await theatre.live(30)
            assert len(world.of(Role.KAMAILIO)) == 2
            world.stop(world.of(Role.KAMAILIO)[0])
            await theatre.live(20)
            assert len(theatre.working(Role.KAMAILIO)) == 2
            assert any("no floating IP yet" in problem.text for problem in theatre.report.problems)
            failed = [line for line in theatre.trail if "make_floating_ip failed" in line]
            assert 3 < len(failed) < 10, "it is tried again, ever more seldom"
            world.no_floating_ip_is_left = False
            await theatre.until("the API is reached", 90)

    run(scene())


def _silence(machine: Machine) -> None:
    machine.reachable = False


@pytest.mark.promise(5)
def test_a_standby_that_is_cut_off_from_the_provider_is_replaced() -> None:
    """Else it is there, and of no use when the leader dies."""

    async def scene() -> None:
        theatre = Theatre(stack(), 16)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            await theatre.live(15)
            (leader,) = theatre.leaders()
            (standby,) = [r for r in theatre.running if r is not leader]
            world.cuts.add((standby.process.name, API))
            await theatre.live(60)
            assert standby.machine.record.id not in world.machines
            await theatre.until("there is another one", 10)

    run(scene())


@pytest.mark.promise(4)
def test_an_outage_of_the_provider_costs_no_scaler() -> None:
    async def scene(seed: int) -> None:
        theatre = Theatre(stack(), seed)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            await theatre.live(15)
            created = world.created
            world.inventory_fails = True
            await theatre.live(90)
            assert all(m.blind for m in world.of(Role.SCALER))
            world.inventory_fails = False
            await theatre.live(30)
            assert world.created == created

    for seed in range(5):
        run(scene(seed))


@pytest.mark.promise(3)
def test_of_two_holders_of_an_address_one_is_replaced() -> None:
    async def scene(seed: int) -> None:
        theatre = Theatre(stack(), seed)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            await theatre.live(2)
            (second,) = [m for m in world.of(Role.KAMAILIO) if not m.active]
            second.hears_nobody = True
            await theatre.live(3)
            assert second.active, "two that hear each other settle it by themselves"
            await theatre.live(60)
            assert len([m for m in world.of(Role.KAMAILIO) if m.active]) == 1
            assert len(world.of(Role.KAMAILIO)) == 2

    for seed in range(4):
        run(scene(seed))


@pytest.mark.promise(4)
def test_when_everything_turns_silent_at_once_nothing_is_deleted_or_made() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 2)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            before, created = set(world.machines), world.created
            for machine in world.machines.values():
                machine.reachable = False
            await asyncio.sleep(700)
            assert set(world.machines) == before
            assert world.created == created
            assert any("silent at once" in problem.text for problem in current.report.problems)

    run(scene())


@pytest.mark.promise(4)
def test_an_empty_inventory_is_not_believed() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 3)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            kept, created = dict(world.machines), world.created
            world.machines.clear()
            await asyncio.sleep(60)
            assert world.created == created
            world.machines.update(kept)
            await current.until("all is as before", 30)
            assert world.created == created

    run(scene())


@pytest.mark.promise(4)
def test_creations_that_never_come_up_get_slower_and_stay_within_bounds() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 4)
        current.world.never_come_up = True
        async with current.going() as world:
            await asyncio.sleep(1200)
            assert world.created < 80
            world.never_come_up = False
            await current.until("the stack comes up after all", 400)

    run(scene())


def test_more_calls_bring_more_gateways_and_empty_ones_leave_after_the_cool_down() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 5)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            for _ in range(4):
                assert world.place_call()
                await asyncio.sleep(20)
            assert len(world.of(Role.GATEWAY)) == 3
            for machine in world.of(Role.GATEWAY):
                machine.calls = 0
            await asyncio.sleep(25)
            assert len(world.of(Role.GATEWAY)) == 3
            await asyncio.sleep(30)
            assert len(world.of(Role.GATEWAY)) == 1

    run(scene())


@pytest.mark.promise(1)
def test_an_operators_drain_stays_and_its_places_are_made_elsewhere() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 6)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            gateway = world.of(Role.GATEWAY)[0]
            gateway.drained_by = "operator"
            await asyncio.sleep(120)
            assert gateway.record.id in world.machines
            assert gateway.drained_by == "operator"
            assert not gateway.retired
            assert len(world.of(Role.GATEWAY)) == 2

    run(scene())


@pytest.mark.promise(1)
def test_outdated_replicas_are_replaced_one_after_the_other_and_no_call_is_lost() -> None:
    async def scene() -> None:
        old = Theatre(stack(), 7)
        async with old.going() as world:
            await old.until("the stack comes up", 60)
            assert world.place_call()
        world.machines = {id_: m for id_, m in world.machines.items() if m.record.role is not Role.SCALER}
        world.version = "v2"
        before = set(world.machines)
        busy = next(m for m in world.of(Role.GATEWAY) if m.calls)
        current = Theatre(stack(), 7, world)
        async with current.going():
            deadline = world.now + 300
            while before & set(world.machines) - {busy.record.id}:
                assert world.now < deadline, "not all outdated replicas were replaced"
                assert len(current.working(Role.KAMAILIO)) >= 2
                assert len(current.working(Role.COTURN)) >= 2
                await asyncio.sleep(0.5)
            await asyncio.sleep(30)
            assert busy.record.id in world.machines
            busy.calls = 0
            await asyncio.sleep(30)
            assert busy.record.id not in world.machines
            assert {m.record.version for m in world.machines.values()} == {"v2"}

    run(scene())


def test_the_address_nobody_holds_is_reported() -> None:
    async def scene() -> None:
        current = Theatre(stack(), 8)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            world.settle_addresses = lambda: None  # type: ignore[method-assign]
            for machine in world.of(Role.COTURN):
                machine.active = False
            await asyncio.sleep(10)
            nobody = "no replica holds the service address of coturn"
            assert any(problem.text == nobody for problem in current.report.problems)
            for machine in world.of(Role.COTURN):
                machine.active = True
            await asyncio.sleep(4)
            assert any("hold the service address" in problem.text for problem in current.report.problems)

    run(scene())


@pytest.mark.promise(5, 6)
def test_a_standby_takes_over_from_a_dead_leader_and_replaces_it() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 9)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            (leader,) = theatre.leaders()
            world.stop(leader.machine)
            died = world.now
            while not theatre.leaders():
                await theatre.live(0.1)
            assert world.now - died <= 2.5 * 3 + 2
            await theatre.until("the dead one is replaced", 30)
            assert leader.machine.record.id not in world.machines

    run(scene())


def test_a_leader_that_stops_hands_over_at_once() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 10)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            (leader,) = theatre.leaders()
            leader.stop.set()
            stopped = world.now
            while leader in theatre.leaders() or not theatre.leaders():
                await theatre.live(0.1)
            assert world.now - stopped < 1.5

    run(scene())


@pytest.mark.promise(2)
def test_a_leader_that_was_frozen_does_nothing_when_it_goes_on() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 11)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            (old,) = theatre.leaders()
            gateway = world.of(Role.GATEWAY)[0]
            world.stop(gateway)  # there is something to do
            old.process.freeze()
            await theatre.live(30)
            (new,) = theatre.leaders()
            assert new is not old
            old.process.thaw()
            await theatre.live(5)
            assert theatre.leaders() == [new]
            await theatre.until("the stack is whole", 30)

    run(scene())


@pytest.mark.promise(2)
def test_a_leader_that_is_cut_off_from_the_api_stops_and_another_follows() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 12)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            (old,) = theatre.leaders()
            world.cuts.add((old.process.name, API))
            await theatre.live(10)
            (new,) = theatre.leaders()
            assert new is not old
            world.cuts.clear()
            await theatre.live(10)
            assert theatre.leaders() == [new]

    run(scene())


@pytest.mark.promise(4)
def test_a_leader_that_hears_few_lets_another_one_lead() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 16)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            (old,) = theatre.leaders()
            world.cuts |= {(old.process.name, id_) for id_ in world.machines if id_ != old.machine.record.id}
            gateway = world.of(Role.GATEWAY)[0]
            world.stop(gateway)
            await theatre.live(15)
            (new,) = theatre.leaders()
            assert new is not old
            await theatre.live(15)
            assert any(m.takes_calls(world.now) for m in world.of(Role.GATEWAY)), "nothing was replaced"

    run(scene())


@pytest.mark.promise(6)
def test_a_pause_outlives_the_leader_that_heard_of_it() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 13)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            (leader,) = theatre.leaders()
            assert leader.scaler is not None
            await virtual_loop().start(leader.process, leader.scaler.lease.pause(True))
            world.stop(leader.machine)
            world.stop(world.of(Role.GATEWAY)[0])
            created = world.created
            await theatre.live(60)
            (new,) = theatre.leaders()
            assert new.scaler is not None
            assert world.created == created, "something was made"
            await virtual_loop().start(new.process, new.scaler.lease.pause(False))
            await theatre.until("the stack is whole", 30)

    run(scene())


@pytest.mark.promise(6)
def test_a_scaler_that_dies_at_any_step_leaves_nothing_that_the_next_one_does_not_mend() -> None:
    async def scene(step: int) -> None:
        theatre = Theatre(stack(), step)
        async with theatre.going():
            await theatre.live(0.1)
            first = theatre.running[0]
            first.process.dies_at = step
            theatre.restart_when_dead(first.machine, first.process, 1.0)
            await theatre.until(f"the stack comes up after a death at step {step}", 120)

    for step in range(1, 1500, STRIDE):
        run(scene(step))


@pytest.mark.promise(3)
def test_an_address_that_does_not_answer_is_moved_once_and_reported_when_it_does_not_help() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 14)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            await theatre.live(2)
            (old,) = [m for m in world.of(Role.COTURN) if m.active]
            old.deaf = True
            await theatre.live(12)
            (new,) = [m for m in world.of(Role.COTURN) if m.active]
            assert new is not old
            assert old.drained_by is None, "it may take over again"
            new.deaf = True
            await theatre.live(30)
            assert new.active, "it is not moved to and fro"
            assert any("has not answered" in problem.text for problem in theatre.report.problems)
            old.deaf = False
            await theatre.live(60)
            assert old.active, "it is moved again after a while"

    run(scene())


@pytest.mark.promise(4)
def test_when_no_address_answers_none_is_moved() -> None:
    async def scene() -> None:
        theatre = Theatre(stack(), 15)
        async with theatre.going() as world:
            await theatre.until("the stack comes up", 60)
            await theatre.live(2)
            active = [m for role in (Role.COTURN, Role.KAMAILIO) for m in world.of(role) if m.active]
            for machine in active:
                machine.deaf = True
            await theatre.live(30)
            assert all(machine.active for machine in active), "the broken part is here"

    run(scene())


def test_a_seed_replays_exactly() -> None:
    trails = []
    for _ in range(2):
        theatre = Theatre(stack(), 3)
        run(history(3, theatre))
        trails.append(theatre.trail)
    assert trails[0] == trails[1]
