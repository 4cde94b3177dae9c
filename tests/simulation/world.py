"""A simulated stack: a provider and agents that fail as the seed says, and the truth behind both."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from ipaddress import IPv4Network

from sipmediadeploy.protocol.agent import Gateways, Order, State, Status
from sipmediadeploy.protocol.client import AgentError
from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.providers.base import Life, ProviderError, ReplicaRecord
from sipmediadeploy.stack import Limits, Role, Stack

SUBNET = IPv4Network("172.30.9.0/24")


@dataclass
class Machine:
    """The truth about one replica."""

    record: ReplicaRecord
    capacity: int
    ready_at: float
    calls: int = 0
    running: bool = True
    reachable: bool = True
    broken: bool = False
    drained_by: str | None = None
    retired: bool = False
    active: bool = False
    term: int = 0
    gateways: Gateways | None = None

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
        self.never_come_up = False
        self.creating = 0
        self.created = 0
        self.deleted: list[Machine] = []
        self.slow_s = 2.0
        self._next_id = 0

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def add(self, document: ReplicaDocument, boot_s: float) -> Machine:
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
        )
        machine = Machine(record, self.stack.pools.gateway.calls, self.now + boot_s)
        self.machines[record.id] = machine
        return machine

    def of(self, role: Role) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.record.role is role]

    # The provider.

    async def inventory(self) -> list[ReplicaRecord]:
        await asyncio.sleep(self.random.uniform(0.01, 0.3))
        if self.inventory_fails:
            raise ProviderError("the engine does not answer")
        return [self._record(machine) for machine in self.machines.values()]

    async def create(self, document: ReplicaDocument, limits: Limits) -> ReplicaRecord:
        self.creating += 1
        try:
            taken = {machine.record.address for machine in self.machines.values()}
            if document.address in taken:
                raise BrokenPromise(f"{document.name} was put into a slot that is taken")
            if document.name in {machine.record.name for machine in self.machines.values()}:
                raise BrokenPromise(f"the name {document.name} was given twice")
            early = self.random.random() < 0.5
            if self.creations_fail:
                await asyncio.sleep(0.2)
                raise ProviderError("no room")
            boot = 1e9 if self.never_come_up else self.random.uniform(1, 8)
            if early:  # Listed before the creation is answered.
                machine = self.add(document, boot)
                await asyncio.sleep(self.random.uniform(0.1, self.slow_s))
            else:
                await asyncio.sleep(self.random.uniform(0.1, self.slow_s))
                machine = self.add(document, boot)
            self.created += 1
            return self._record(machine)
        finally:
            self.creating -= 1

    async def delete(self, replica_id: str) -> None:
        machine = self.machines.get(replica_id)
        if machine is None:
            return
        if machine.record.role is Role.GATEWAY and machine.running and machine.calls:
            raise BrokenPromise(f"{machine.record.name} was deleted with {machine.calls} calls")
        came_up = self.now >= machine.ready_at
        live = machine.running and machine.reachable and came_up
        if machine.record.role is Role.GATEWAY and live and not machine.retired:
            raise BrokenPromise(f"{machine.record.name} was deleted without being retired")
        machine.running = False
        await asyncio.sleep(self.random.uniform(0.05, self.slow_s))
        if self.machines.pop(replica_id, None) is not None:
            self.deleted.append(machine)

    def _record(self, machine: Machine) -> ReplicaRecord:
        r = machine.record
        life = Life.RUNNING if machine.running else Life.STOPPED
        return ReplicaRecord(
            r.id, r.name, r.role, r.slot, r.address, life, r.created_at, r.config_hash, r.version
        )

    # The agents.

    async def status(self, record: ReplicaRecord) -> Status:
        machine = await self._answering(record)
        state, reason = State.READY, "works"
        if self.now < machine.ready_at:
            state, reason = State.BOOTING, "starts"
        elif machine.broken:
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

    async def order(self, record: ReplicaRecord, what: str, order: Order) -> None:
        machine = await self._answering(record)
        machine.term = max(machine.term, order.term)
        if what == "drain":
            machine.drained_by = machine.drained_by or order.by
        elif what == "undrain":
            if machine.retired or machine.drained_by == "operator":
                raise BrokenPromise(f"{record.name} was undrained, which only an operator may")
            machine.drained_by = None
        else:
            machine.retired = True

    async def set_gateways(self, record: ReplicaRecord, gateways: Gateways) -> None:
        machine = await self._answering(record)
        machine.term = max(machine.term, gateways.term)
        machine.gateways = gateways

    async def _answering(self, record: ReplicaRecord) -> Machine:
        machine = self.machines.get(record.id)
        if machine is None or not machine.running:
            await asyncio.sleep(0.01)
            raise AgentError("connection refused")
        if not machine.reachable:
            await asyncio.sleep(1.0)
            raise AgentError("no answer within 1 s")
        await asyncio.sleep(self.random.uniform(0.001, 0.02))
        return machine

    # What happens by itself.

    def settle_addresses(self) -> None:
        """VRRP: one working replica of each pool holds the address, reachable for the scaler or not."""
        for role in (Role.KAMAILIO, Role.COTURN):
            machines = self.of(role)
            able = [m for m in machines if m.running and not m.broken and self.now >= m.ready_at]
            holder = next((m for m in able if m.active and m.drained_by is None), None)
            holder = holder or next((m for m in able if m.drained_by is None), able[0] if able else None)
            for machine in machines:
                machine.active = machine is holder

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
