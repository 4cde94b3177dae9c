"""A simulated stack: a provider, agents and a lease that fail as the seed says, and the truth behind them.

Who asks is the simulated process that runs (``clock.RUNNING``). What was asked is done on the other side,
whatever becomes of the one who asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NoReturn, TypeVar

from sipmediadeploy.protocol.agent import Gateways, Order, State, Status
from sipmediadeploy.protocol.client import AgentError
from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.providers.base import FloatingIp, Life, ProviderError, ReplicaRecord
from sipmediadeploy.providers.lease import LeaseRecord, Mark
from sipmediadeploy.stack import Limits, Role, Stack
from tests.harness.lease_store import MemoryLeaseStore
from tests.simulation.clock import RUNNING, Process, virtual_loop

SUBNET = IPv4Network("172.30.9.0/24")
LEASE_LIMIT_S = 3.0
API = "api"
"""The provider's API, as one end of a cut."""

T = TypeVar("T")
Answer = Callable[[], Coroutine[Any, Any, T]]


def floating_ip(role: Role) -> IPv4Address:
    return IPv4Address(f"198.51.100.{1 + list(Role).index(role)}")


@dataclass
class Machine:
    """The truth about one replica."""

    record: ReplicaRecord
    capacity: int
    ready_at: float
    calls: int = 0
    running: bool = True
    reachable: bool = True
    agent_dead: bool = False
    """Its service goes on without."""
    broken: bool = False
    drained_by: str | None = None
    retired: bool = False
    active: bool = False
    term: int = 0
    gateways: Gateways | None = None
    deaf: bool = False
    """It holds the service address and answers nobody who calls it."""
    hears_nobody: bool = False
    """It does not hear the others of its pool, and takes the service address."""
    process: Process | None = None
    """A scaler's."""
    blind: bool = False
    """A scaler says that it can't read the inventory."""
    stepped_at: float = 0.0
    """When a scaler's loop made its last step."""

    def takes_calls(self, now: float) -> bool:
        works = self.running and not self.broken and now >= self.ready_at
        return works and self.drained_by is None and not self.retired and self.calls < self.capacity


class BrokenPromise(AssertionError):
    """The scaler did what it must never do."""


class World:
    """Provider and agents of one stack (see ``providers.base.Provider``, ``protocol.client.Agents``)."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.version = "v1"
        self.machines: dict[str, Machine] = {}
        self.inventory_fails = False
        self.creations_fail = False
        self.no_floating_ip_is_left = False
        self.never_come_up = False
        self.asked_to_delete = set[str]()
        """Ids of replicas that may go at any moment."""
        self.api_lies = 0.0
        """How often a request of the API takes effect and is answered with an error."""
        self.api_slow_s = 0.0
        """How long the API may take in addition."""
        self.probes_lost = 0.0
        """How often a question to an agent, or its answer, is lost."""
        self.cuts: set[tuple[str, str]] = set()
        """(process, machine id or API): nothing passes."""
        self.closed = False
        self.service_addresses = True
        self.api_floating_ip = False
        self.zones: tuple[str, ...] = ()
        self.floating: dict[Role, str | None] = {}
        """By role: what its floating IP is mapped to; absent: it has none."""
        self.creating = 0
        self.created = 0
        self.refused: list[str] = []
        """Creations in a slot, or with a name, that was taken."""
        self.deleted: list[Machine] = []
        self.slow_s = 2.0
        self.added: Callable[[Machine], None] = lambda _machine: None
        self.removed: Callable[[Machine], None] = lambda _machine: None
        self.sent: Callable[[Process, str], None] = lambda *_: None
        """Told of each request that changes something: who, and what."""
        self.store = MemoryLeaseStore()
        self.answered_at: dict[Role, float] = {}
        self.broken: list[str] = []
        """Promises that were broken."""
        self._next_id = 0

    @property
    def now(self) -> float:
        """True time."""
        return virtual_loop().virtual_time

    def break_promise(self, what: str) -> NoReturn:
        """The scaler did what it must never do."""
        self.broken.append(f"{self.now:.1f}: {what}")
        raise BrokenPromise(what)

    def add(self, document: ReplicaDocument, boot_s: float, zone: str = "") -> Machine:
        self._next_id += 1
        record = ReplicaRecord(
            id=f"id{self._next_id}",
            name=document.name,
            role=document.role,
            slot=document.slot,
            address=document.address,
            life=Life.RUNNING,
            created_at=time.time(),
            config_hash=document.service_hash(),
            version=self.version,
            zone=zone,
        )
        machine = Machine(record, self.stack.pools.gateway.calls, self.now + boot_s)
        self.machines[record.id] = machine
        self.added(machine)
        return machine

    def of(self, role: Role) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.record.role is role]

    def stop(self, machine: Machine) -> None:
        """Its power is cut."""
        machine.running = False
        machine.calls = 0
        self.removed(machine)

    def vanish(self, machine: Machine) -> None:
        """Somebody deletes it by hand."""
        self.stop(machine)
        self.machines.pop(machine.record.id, None)

    # The provider.

    async def inventory(self) -> list[ReplicaRecord]:
        return await self.api(self._inventory)

    async def create(self, document: ReplicaDocument, limits: Limits, zone: str = "") -> ReplicaRecord:
        self._note(f"create {document.name}")
        return await self.api(lambda: self._create(document, zone))

    async def floating_ips(self) -> list[FloatingIp]:
        async def listed() -> list[FloatingIp]:
            await asyncio.sleep(self.random.uniform(0.01, 0.1))
            return [FloatingIp(role, floating_ip(role), to) for role, to in self.floating.items()]

        return await self.api(listed)

    async def make_floating_ip(self, role: Role, to: str) -> None:
        self._note(f"floating IP of {role}")

        async def made() -> None:
            await asyncio.sleep(self.random.uniform(0.05, self.slow_s))
            if self.no_floating_ip_is_left:
                raise ProviderError("the quota of floating IPs is used up")
            self.floating.setdefault(role, to)

        await self.api(made)

    async def map_floating_ip(self, address: IPv4Address, to: str) -> None:
        self._note(f"map {address}")

        async def mapped() -> None:
            await asyncio.sleep(self.random.uniform(0.05, self.slow_s))
            (role,) = [role for role in self.floating if floating_ip(role) == address]
            self.floating[role] = to

        await self.api(mapped)

    async def delete(self, replica_id: str) -> None:
        self._note(f"delete {replica_id}")
        self.asked_to_delete.add(replica_id)
        await self.api(lambda: self._delete(replica_id))

    def lease(self) -> WorldLeaseStore:
        return WorldLeaseStore(self)

    def close(self) -> None:
        """It has no connections."""

    def _note(self, what: str) -> None:
        process = RUNNING.get()
        if process is not None and not self.closed:
            self.sent(process, what)

    async def ask(self, answer: Answer[T], cut: bool, error: Exception) -> T:
        """Have it answered on the other side; nothing comes through a cut, neither question nor answer."""
        if cut or self.closed:
            await asyncio.sleep(0.05 if self.closed else 3.0)
            raise error
        answering = virtual_loop().serve(answer())
        answering.add_done_callback(_was_heard)
        result: T = await asyncio.shield(answering)
        return result

    async def api(self, answer: Answer[T]) -> T:
        process = RUNNING.get()
        cut = process is not None and (process.name, API) in self.cuts
        return await self.ask(lambda: self._lying(answer), cut, ProviderError("the engine can't be reached"))

    async def _lying(self, answer: Answer[T]) -> T:
        if self.api_slow_s:
            await asyncio.sleep(self.random.uniform(0, self.api_slow_s))
        result = await answer()
        if self.random.random() < self.api_lies:
            raise ProviderError("an error, and yet it was done")
        return result

    async def _inventory(self) -> list[ReplicaRecord]:
        await asyncio.sleep(self.random.uniform(0.01, 0.3))
        if self.inventory_fails:
            raise ProviderError("the engine does not answer")
        return [self._record(machine) for machine in self.machines.values()]

    async def _create(self, document: ReplicaDocument, zone: str) -> ReplicaRecord:
        self.creating += 1
        try:
            early = self.random.random() < 0.5
            if self.creations_fail:
                await asyncio.sleep(0.2)
                raise ProviderError("no room")
            boot = 1e9 if self.never_come_up else self.random.uniform(1, 8)
            if not early:
                await asyncio.sleep(self.random.uniform(0.1, self.slow_s))
            others = [machine.record for machine in self.machines.values()]
            if document.address in {r.address for r in others} or document.name in {r.name for r in others}:
                self.refused.append(document.name)
                raise ProviderError(f"{document.name}: its name or its address is taken")
            machine = self.add(document, boot, zone)
            if early:  # Listed before the creation is answered.
                await asyncio.sleep(self.random.uniform(0.1, self.slow_s))
            self.created += 1
            return self._record(machine)
        finally:
            self.creating -= 1

    async def _delete(self, replica_id: str) -> None:
        machine = self.machines.get(replica_id)
        if machine is None:
            return
        if machine.record.role is Role.GATEWAY and machine.running and machine.calls:
            self.break_promise(f"{machine.record.name} was deleted with {machine.calls} calls")
        came_up = self.now >= machine.ready_at
        live = machine.running and machine.reachable and came_up
        if machine.record.role is Role.GATEWAY and live and not machine.retired:
            self.break_promise(f"{machine.record.name} was deleted without being retired")
        machine.running = False
        self.removed(machine)
        await asyncio.sleep(self.random.uniform(0.05, self.slow_s))
        if self.machines.pop(replica_id, None) is not None:
            self.deleted.append(machine)

    def _record(self, machine: Machine) -> ReplicaRecord:
        return replace(machine.record, life=Life.RUNNING if machine.running else Life.STOPPED)

    # The agents.

    async def status(self, record: ReplicaRecord) -> Status:
        return await self._agent(record, self._status)

    async def order(self, record: ReplicaRecord, what: str, order: Order) -> None:
        self._note(f"{what} {record.name}")
        await self._agent(record, lambda machine: self._order(machine, what, order))

    async def set_gateways(self, record: ReplicaRecord, gateways: Gateways) -> None:
        self._note(f"gateways {record.name}")

        def take(machine: Machine) -> None:
            self._see_term(machine, gateways.term)
            machine.gateways = gateways

        await self._agent(record, take)

    async def _agent(self, record: ReplicaRecord, answer: Callable[[Machine], T]) -> T:
        process = RUNNING.get()
        cut = process is not None and (process.name, record.id) in self.cuts
        cut = cut or self.random.random() < self.probes_lost
        return await self.ask(lambda: self._answer(record, answer), cut, AgentError("no answer within 1 s"))

    async def _answer(self, record: ReplicaRecord, answer: Callable[[Machine], T]) -> T:
        machine = self.machines.get(record.id)
        if machine is None or not machine.running:
            await asyncio.sleep(0.01)
            raise AgentError("connection refused")
        if not machine.reachable or machine.agent_dead:
            await asyncio.sleep(1.0)
            raise AgentError("no answer within 1 s")
        await asyncio.sleep(self.random.uniform(0.001, 0.02))
        return answer(machine)

    async def serves(self, record: ReplicaRecord) -> bool | None:
        """See ``scaler.health.serves``; this one is answered late, or not at all, like an agent."""

        async def answer() -> bool:
            machine = self.machines.get(record.id)
            if machine is None or not machine.running or not machine.reachable or machine.broken:
                await asyncio.sleep(1.0)
                return False
            await asyncio.sleep(self.random.uniform(0.001, 0.02))
            return self.now >= machine.ready_at

        process = RUNNING.get()
        cut = process is not None and (process.name, record.id) in self.cuts
        try:
            return await self.ask(answer, cut or self.random.random() < self.probes_lost, TimeoutError())
        except TimeoutError:
            return False

    def _status(self, machine: Machine) -> Status:
        record = machine.record
        state, reason = State.READY, "works"
        if self.now < machine.ready_at:
            state, reason = State.BOOTING, "starts"
        elif machine.broken or machine.blind or self._hangs(machine):
            state, reason = State.FAILED, "its service does not answer"
        elif machine.drained_by is not None:
            state = State.DRAINING if machine.calls else State.DRAINED
        elif machine.calls:
            state = State.BUSY
        return Status(
            name=record.name,
            role=record.role,
            state=state,
            reason=reason,
            calls=machine.calls,
            capacity=machine.capacity if record.role is Role.GATEWAY else 0,
            active=machine.active if record.role in (Role.KAMAILIO, Role.COTURN) else None,
            drained_by=machine.drained_by,
            retired=machine.retired,
            version=record.version,
            config_hash=record.config_hash,
            uptime_s=0.0,
            term=machine.term,
            gateways_revision=machine.gateways.revision if machine.gateways else None,
        )

    def _hangs(self, machine: Machine) -> bool:
        return machine.record.role is Role.SCALER and self.now - machine.stepped_at > 10

    def _order(self, machine: Machine, what: str, order: Order) -> None:
        self._see_term(machine, order.term)
        if what == "drain":
            machine.drained_by = machine.drained_by or order.by
        elif what == "undrain":
            if machine.retired or machine.drained_by == "operator":
                self.break_promise(f"{machine.record.name} was undrained, which only an operator may")
            machine.drained_by = None
        else:
            machine.retired = True

    def _see_term(self, machine: Machine, term: int) -> None:
        if term < machine.term:
            raise AgentError(f"term {term} is older than {machine.term}")
        machine.term = term

    def address_silent_s(self, role: Role) -> float | None:
        """See ``address_watch.AddressWatch.silent_s``; who asks has the clock of the truth here."""
        if any(m.active and m.running and not m.deaf for m in self.of(role)):
            self.answered_at[role] = self.now
        at = self.answered_at.get(role)
        return None if at is None else self.now - at

    # What happens by itself.

    def settle_addresses(self) -> None:
        """VRRP: one working replica of each pool holds the address, reachable for the scaler or not."""
        for role in (Role.KAMAILIO, Role.COTURN):
            machines = self.of(role)
            able = [m for m in machines if m.running and not m.broken and self.now >= m.ready_at]
            hear = [m for m in able if not m.hears_nobody]
            holder = next((m for m in hear if m.active and m.drained_by is None), None)
            holder = holder or next((m for m in hear if m.drained_by is None), hear[0] if hear else None)
            if not self.service_addresses:
                continue  # The scaler maps floating IPs.
            for machine in machines:
                alone = machine in able and machine.hears_nobody  # drained or not
                machine.active = machine is holder or alone

    def place_call(self) -> bool:
        """A caller comes; the active Kamailio places the call by the list that it was told."""
        kamailio = next((m for m in self.of(Role.KAMAILIO) if m.active), None)
        listed = kamailio.gateways.gateways if kamailio and kamailio.gateways else ()
        names = {gateway.name for gateway in listed if gateway.free > 0}
        for machine in self.of(Role.GATEWAY):
            if machine.record.name in names and machine.takes_calls(self.now):
                machine.calls += 1
                return True
        return False


def _was_heard(answering: asyncio.Future[T]) -> None:
    """An error is no surprise to the loop, when who asked is dead."""
    if not answering.cancelled():
        answering.exception()


class WorldLeaseStore:
    """The lease's store behind the provider's API."""

    pace = 1.0

    def __init__(self, world: World) -> None:
        self._world = world

    async def read(self) -> LeaseRecord | None:
        return await self._slowly(self._world.store.read)

    async def create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        return await self._slowly(lambda: self._world.store.create(holder, term, mark))

    async def change(self, record_id: str, mark: Mark) -> None:
        await self._slowly(lambda: self._world.store.change(record_id, mark))

    async def delete(self, record_id: str) -> bool:
        return await self._slowly(lambda: self._world.store.delete(record_id))

    async def _slowly(self, answer: Answer[T]) -> T:
        async def later() -> T:
            await asyncio.sleep(self._world.random.uniform(0.002, 0.05))
            result = await answer()
            await asyncio.sleep(self._world.random.uniform(0.002, 0.05))
            return result

        try:
            async with asyncio.timeout(LEASE_LIMIT_S):
                return await self._world.api(later)
        except TimeoutError:
            raise ProviderError("no answer in time") from None
