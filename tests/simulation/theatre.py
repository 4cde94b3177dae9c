"""A stack of scalers over a simulated world, and the checks of every promise at every step."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import SERVICE_ADDRESS
from sipmediadeploy.providers.lease import reserve
from sipmediadeploy.scaler.loop import Hooks, Report, Scaler
from sipmediadeploy.scaler.main import MakeDocument, make_scaler
from sipmediadeploy.scaler.model import MAX_CREATIONS, SURGE, Action, Target
from sipmediadeploy.scaler.plan import limits
from sipmediadeploy.stack import Role, Stack, parse_stack
from tests.simulation.clock import RUNNING, Process, virtual_loop
from tests.simulation.world import SUBNET, Machine, World

STACK = """
name: sim
domain: sip.example.org
pools:
  gateway: {min: 1, max: 4, calls: 2, spare: 2, cooldown_s: 30}
"""
_LOOK_S = 0.5


def stack(text: str = STACK) -> Stack:
    return parse_stack(text)


@dataclass
class Running:
    """A scaler's process."""

    machine: Machine
    process: Process
    scaler: Scaler | None
    """None: it has not made its first step."""
    stop: asyncio.Event
    task: asyncio.Task[None]


class Theatre:
    """Starts a scaler on each of the world's scaler machines, and watches all of them."""

    def __init__(self, stack: Stack, seed: int, world: World | None = None) -> None:
        self.world = world or World(stack, seed)
        self.seed = seed
        self.trail: list[str] = []
        self.report = Report(False, None, 0, False, (), 0)
        """The newest one of a scaler that leads."""
        self.running: list[Running] = []
        self.speeds = False
        """Scalers' clocks differ in speed, by up to 10 % from the truth."""
        self._newest: tuple[int, str] = (0, "")
        """The newest lease by which anybody has sent, and who."""
        _, self.target, self.document = self._make(f"{self.world.stack.name}-scaler-0", None)

    def _make(self, name: str, machine: Machine | None) -> tuple[Scaler, Target, MakeDocument]:
        world = self.world

        def event(phase: str, action: Action, error: str) -> None:
            self.say(name, f"{action.kind} {phase} {action.name}: {action.reason} {error}")

        def report(report: Report) -> None:
            if machine is not None:
                machine.stepped_at, machine.blind = world.now, report.blind is not None
            if report.leading:
                self.report = report

        return make_scaler(
            world.stack,
            SUBNET,
            Secrets(master="master"),
            world.version,
            name,
            world,
            world,
            Hooks(
                event=event,
                report=report,
                told=lambda what: self.say(name, what),
                serves=world.serves,
                jitter=lambda: world.random.uniform(0.75, 1.25),
                address_silent_s=world.address_silent_s,
            ),
        )

    def say(self, who: str, what: str) -> None:
        self.trail.append(f"{self.world.now:.2f} {who}: {what}")

    # Scalers

    def _added(self, machine: Machine) -> None:
        if machine.record.role is Role.SCALER:
            machine.stepped_at = machine.ready_at
            delay = max(machine.ready_at - self.world.now, 0.0)
            virtual_loop().call_later(min(delay, 1e6), self._boot, machine)

    def _boot(self, machine: Machine) -> None:
        lives = machine.process is not None and not machine.process.dead
        if machine.running and not lives and not self.world.closed:
            self.start(machine)

    def start(self, machine: Machine) -> Running:
        """Start the scaler of ``machine``, as its supervisor does."""
        speed = self.world.random.uniform(0.95, 1.05) if self.speeds else 1.0
        process = machine.process = Process(machine.record.name, speed)
        stop = asyncio.Event()

        async def main() -> None:
            scaler, _, _ = self._make(machine.record.name, machine)
            running.scaler = scaler
            await scaler.run(stop)

        task = virtual_loop().start(process, main())
        running = Running(machine, process, None, stop, task)
        self.running.append(running)
        return running

    def restart_when_dead(self, machine: Machine, process: Process, pause_s: float) -> None:
        """Its supervisor starts the scaler of ``machine`` again, some time after ``process`` has died."""
        if process is not machine.process or self.world.closed:
            return
        if process.dead:
            self.say(machine.record.name, "has died, and is started again")
            virtual_loop().call_later(pause_s, self._boot, machine)
        else:
            virtual_loop().call_later(0.1, self.restart_when_dead, machine, process, pause_s)

    def _removed(self, machine: Machine) -> None:
        if machine.process is not None:
            machine.process.kill()

    def leaders(self) -> list[Running]:
        """The scalers that may act, as they see it themselves. (Their own clocks say so.)"""
        found = []
        for running in self.running:
            process = running.process
            if running.scaler is None or process.frozen:
                continue
            if _as(process, partial(getattr, running.scaler.lease, "leads")):
                found.append(running)
        return found

    def _sent(self, process: Process, what: str) -> None:
        running = next((r for r in self.running if r.process is process), None)
        if running is None or running.scaler is None:
            return
        mine = running.scaler.lease._mine
        number = self.world.store.number(mine.id) if mine is not None else 0
        newest, who = self._newest
        if number < newest or number == 0:
            at = f"{self.world.now:.2f}"
            self.world.broken.append(
                f"{at}: {process.name} sent '{what}' by lease {number}, {who} by {newest}"
            )
        self._newest = max(self._newest, (number, process.name))

    # The scene

    def check(self) -> None:
        """Every promise that can be seen at any time."""
        world = self.world
        world.settle_addresses()
        for role, limit in limits(self.target).items():
            number = len(world.of(role))
            if number > limit + SURGE:
                world.broken.append(f"{number} of {role} at {world.now:.1f}")
        if world.creating > 5 * MAX_CREATIONS:
            world.broken.append(f"{world.creating} creations at once")
        for running in self.running:
            if running.task.done() and not running.task.cancelled() and running.task.exception() is not None:
                world.broken.append(f"{running.process.name} ended: {running.task.exception()!r}")
        assert not world.broken, f"seed {self.seed}: {world.broken}"

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[World]:
        """The first scaler is there; the scene is what happens meanwhile."""
        world = self.world
        world.closed = False
        world.added, world.removed, world.sent = self._added, self._removed, self._sent
        own = f"{world.stack.name}-scaler-0"
        if world.store.record is None:
            await reserve(world.store, own)
        world.add(self.document(Role.SCALER, 0, own), 0.0)
        watching = asyncio.create_task(self._watch())
        try:
            yield world
            self.check()
        except BaseException as e:
            e.add_note(f"seed {self.seed}; what happened:\n" + "\n".join(self.trail[-80:]))
            raise
        finally:
            watching.cancel()
            await self._end()
        self.check()

    async def _watch(self) -> None:
        while True:
            self.world.settle_addresses()
            await asyncio.sleep(_LOOK_S)

    async def _end(self) -> None:
        for running in self.running:
            if running.process.dead:
                self.world.closed = True
        stopping = [running for running in self.running if not running.process.dead]
        for running in stopping:
            running.process.dies_at = None
            running.process.thaw()
            running.stop.set()
        if stopping:
            await asyncio.wait([running.task for running in stopping])
        self.world.closed = True
        dead = [running for running in self.running if running.process.dead]
        for running in dead:
            running.process.bury()
            running.task.cancel()
        if dead:
            await asyncio.wait([running.task for running in dead])
        self.running.clear()

    def whole(self) -> bool:
        """Every pool is at its number, all work, one scaler leads, and the list of gateways is in use."""
        world = self.world
        pools = world.stack.pools
        counts = {
            Role.KAMAILIO: pools.kamailio.replicas,
            Role.COTURN: pools.coturn.replicas,
            Role.CONFERENCE_DEMO: 1,
            Role.SCALER: pools.scaler.replicas,
        }
        fixed = all(len(self.working(role)) == n for role, n in counts.items())
        gateways = {m.record.name for m in self.working(Role.GATEWAY)}
        lists = [
            {g.name for g in m.gateways.gateways if g.free} if m.gateways else set()
            for m in self.working(Role.KAMAILIO)
        ]
        takes = {m.record.name for m in world.of(Role.GATEWAY) if m.takes_calls(world.now)}
        told = all(known == takes for known in lists)
        reached = all(self._is_reached(role, to) for role, to in world.floating.items())
        if world.api_floating_ip:
            reached = reached and Role.SCALER in world.floating
        return fixed and bool(gateways) and told and reached and len(self.leaders()) == 1

    def _is_reached(self, role: Role, mapped_to: str | None) -> bool:
        if role is Role.SCALER:
            return mapped_to in {running.machine.record.id for running in self.leaders()}
        if self.world.service_addresses:
            return mapped_to == SERVICE_ADDRESS
        return mapped_to in {machine.record.id for machine in self.working(role)}

    def working(self, role: Role) -> list[Machine]:
        now = self.world.now
        return [
            m
            for m in self.world.of(role)
            if m.running and not m.broken and now >= m.ready_at and not (m.process and m.process.frozen)
        ]

    async def until(self, what: str, within: float) -> None:
        """Wait until the stack is whole."""
        deadline = self.world.now + within
        while not self.whole():
            self.check()
            assert self.world.now < deadline, f"{what}: {self.report.problems}"
            await asyncio.sleep(_LOOK_S)

    async def live(self, seconds: float) -> None:
        """Let time pass, checking."""
        deadline = self.world.now + seconds
        while self.world.now < deadline:
            self.check()
            await asyncio.sleep(_LOOK_S)


def _as(process: Process, question: Callable[[], bool]) -> bool:
    """The answer by the clock of ``process``."""
    context = contextvars.copy_context()
    context.run(RUNNING.set, process)
    return context.run(question)
