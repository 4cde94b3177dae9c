"""The scaler's promises, checked at every step of seeded histories full of faults, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler.loop import Report
from sipmediadeploy.scaler.main import make_scaler
from sipmediadeploy.scaler.model import MAX_CREATIONS, SURGE, Action
from sipmediadeploy.scaler.plan import limits
from sipmediadeploy.stack import Role, Stack, parse_stack

from .clock import run
from .world import SUBNET, BrokenPromise, Machine, World

SEEDS = int(os.environ.get("SMD_SIMULATION_SEEDS", "30"))
STACK = """
name: sim
domain: sip.example.org
pools:
  gateway: {min: 1, max: 4, calls: 2, spare: 2, cooldown_s: 30}
"""


class Run:
    """One scaler over one world, and a check of every promise at every step."""

    def __init__(self, stack: Stack, seed: int, world: World | None = None) -> None:
        self.world = world or World(stack, seed)
        self.seed = seed
        self.trail: list[str] = []
        self.report = Report(False, 0, (), 0)
        self.broken: list[str] = []

    def event(self, phase: str, action: Action, error: str) -> None:
        self.trail.append(
            f"{self.world.now:.1f} {action.kind} {phase} {action.name}: {action.reason} {error}"
        )

    def reported(self, report: Report) -> None:
        self.report = report
        world = self.world
        world.settle_addresses()
        for role, limit in limits(self.target).items():
            number = len(world.of(role))
            if number > limit + SURGE:
                self.broken.append(f"{number} of {role} at {world.now:.1f}")
        if world.creating > 5 * MAX_CREATIONS:
            self.broken.append(f"{world.creating} creations at once")

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[World]:
        world, stop = self.world, asyncio.Event()
        own = f"{world.stack.name}-scaler-0"
        scaler, self.target, document = make_scaler(
            world.stack,
            SUBNET,
            Secrets(master="master"),
            world.version,
            own,
            world,
            world,
            self.event,
            self.reported,
        )
        world.add(document(Role.SCALER, 0, own), 0.0)
        task = asyncio.create_task(scaler.run(stop))
        try:
            yield world
            if task.done():
                task.result()
        except BaseException as e:
            e.add_note(f"seed {self.seed}; what it did:\n" + "\n".join(self.trail[-60:]))
            raise
        finally:
            stop.set()
            await task
        assert not self.broken, f"seed {self.seed}: {self.broken}"

    def whole(self) -> bool:
        """Every pool is at its number, all work, and the list of gateways is in use."""
        world = self.world
        counts = {Role.KAMAILIO: 2, Role.COTURN: 2, Role.CONFERENCE_DEMO: 1, Role.SCALER: 1}
        fixed = all(len(self.working(role)) == n for role, n in counts.items())
        gateways = {m.record.name for m in self.working(Role.GATEWAY)}
        lists = [
            {g.name for g in m.gateways.gateways if g.free} if m.gateways else set()
            for m in self.working(Role.KAMAILIO)
        ]
        takes = {m.record.name for m in world.of(Role.GATEWAY) if m.takes_calls(world.now)}
        return fixed and bool(gateways) and all(known == takes for known in lists)

    def working(self, role: Role) -> list[Machine]:
        now = self.world.now
        return [m for m in self.world.of(role) if m.running and not m.broken and now >= m.ready_at]

    async def until(self, what: str, within: float) -> None:
        deadline = self.world.now + within
        while not self.whole():
            assert self.world.now < deadline, f"{what}: {self.report.problems}"
            await asyncio.sleep(0.5)


def stack(text: str = STACK) -> Stack:
    return parse_stack(text)


async def history(seed: int) -> None:
    """A stack comes up, lives through minutes of faults and calls, and is whole again afterwards."""
    current = Run(stack(), seed)
    async with current.going() as world:
        await current.until("the stack comes up", 60)
        for _ in range(200):
            await asyncio.sleep(1.0)
            trouble(world)
            traffic(world)
        calm(world)
        # A gateway that is silent at the end may be deleted ten minutes late, but is replaced before.
        await current.until("the stack is whole after the faults", 240)


def trouble(world: World) -> None:
    """Now and then something breaks, and some of it heals."""
    chance = world.random.random
    machines = [machine for machine in world.machines.values() if machine.record.role is not Role.SCALER]
    victim = world.random.choice(machines) if machines else None
    if victim is not None and chance() < 0.02:
        victim.running = False
        victim.calls = 0
    elif victim is not None and chance() < 0.02:
        victim.reachable = not victim.reachable
    elif victim is not None and chance() < 0.01:
        victim.broken = not victim.broken
    elif victim is not None and chance() < 0.005:
        del world.machines[victim.record.id]
    if chance() < 0.02:
        world.inventory_fails = not world.inventory_fails
    if chance() < 0.02:
        world.creations_fail = not world.creations_fail
    if chance() < 0.01:
        world.never_come_up = not world.never_come_up
    if chance() < 0.005:
        for machine in machines:
            machine.reachable = False


def traffic(world: World) -> None:
    if world.random.random() < 0.1:
        world.place_call()
    for machine in world.of(Role.GATEWAY):
        if machine.calls and world.random.random() < 0.02:
            machine.calls -= 1


def calm(world: World) -> None:
    world.inventory_fails = world.creations_fail = world.never_come_up = False
    for machine in world.machines.values():
        machine.reachable = True


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_promise_holds_in_a_history_of_faults(seed: int) -> None:
    print(f"seed {seed}")
    run(history(seed))


def test_a_promise_broken_in_the_world_is_noticed() -> None:
    """The check itself can fail: deleting a gateway with a call is an error."""

    async def scene() -> None:
        current = Run(stack(), 0)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            gateway = world.of(Role.GATEWAY)[0]
            gateway.calls = 1
            with pytest.raises(BrokenPromise):
                await world.delete(gateway.record.id)

    run(scene())


def test_a_silent_gateway_is_replaced_soon_and_keeps_its_calls_for_ten_minutes() -> None:
    async def scene() -> None:
        current = Run(stack(), 1)
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


def test_when_everything_turns_silent_at_once_nothing_is_deleted_or_made() -> None:
    async def scene() -> None:
        current = Run(stack(), 2)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            before, created = set(world.machines), world.created
            for machine in world.machines.values():
                machine.reachable = False
            await asyncio.sleep(700)
            assert set(world.machines) == before
            assert world.created == created
            assert any("silent at once" in problem for problem in current.report.problems)

    run(scene())


def test_an_empty_inventory_is_not_believed() -> None:
    async def scene() -> None:
        current = Run(stack(), 3)
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


def test_creations_that_never_come_up_get_slower_and_stay_within_bounds() -> None:
    async def scene() -> None:
        current = Run(stack(), 4)
        current.world.never_come_up = True
        async with current.going() as world:
            await asyncio.sleep(1200)
            assert world.created < 60
            world.never_come_up = False
            await current.until("the stack comes up after all", 400)

    run(scene())


def test_more_calls_bring_more_gateways_and_empty_ones_leave_after_the_cool_down() -> None:
    async def scene() -> None:
        current = Run(stack(), 5)
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


def test_an_operators_drain_stays_and_its_places_are_made_elsewhere() -> None:
    async def scene() -> None:
        current = Run(stack(), 6)
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


def test_outdated_replicas_are_replaced_one_after_the_other_and_no_call_is_lost() -> None:
    async def scene() -> None:
        old = Run(stack(), 7)
        async with old.going() as world:
            await old.until("the stack comes up", 60)
            assert world.place_call()
        world.machines = {id_: m for id_, m in world.machines.items() if m.record.role is not Role.SCALER}
        world.version = "v2"
        before = set(world.machines)
        busy = next(m for m in world.of(Role.GATEWAY) if m.calls)
        current = Run(stack(), 7, world)
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
        current = Run(stack(), 8)
        async with current.going() as world:
            await current.until("the stack comes up", 60)
            world.settle_addresses = lambda: None  # type: ignore[method-assign]
            for machine in world.of(Role.COTURN):
                machine.active = False
            await asyncio.sleep(10)
            assert "no replica holds the service address of coturn" in current.report.problems
            for machine in world.of(Role.COTURN):
                machine.active = True
            await asyncio.sleep(10)
            assert any("hold the service address" in problem for problem in current.report.problems)

    run(scene())
