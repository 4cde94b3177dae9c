"""A scaler as its API needs it, without a loop, a provider or a lease."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network
from typing import cast

from sipmediadeploy.protocol.agent import State
from sipmediadeploy.protocol.client import AgentError
from sipmediadeploy.protocol.scaler import View
from sipmediadeploy.protocol.seen import Seen, StackNow
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.scaler.api import Sources
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.scaler.metrics import Metrics
from sipmediadeploy.scaler.model import Action
from sipmediadeploy.stack import Role

TOKEN = "the operators' token"
SUBNET = IPv4Network("172.30.9.0/24")


def record(role: Role, slot: int, address: str = "127.0.0.9") -> ReplicaRecord:
    name = f"demo-{role}-{slot}"
    return ReplicaRecord(f"id-{name}", name, role, slot, IPv4Address(address), Life.RUNNING, 0.0, "h", "v")


class FakeLease:
    def __init__(self, leader: str, own: str) -> None:
        self.leads, self.leader = leader == own, leader
        self.paused: list[bool] = []
        self.released: list[str] = []

    async def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    async def release(self, why: str) -> None:
        self.released.append(why)


class FakeScaler:
    """What the API needs of a scaler."""

    stack = "demo"

    def __init__(self, own: str, leader: str, records: list[ReplicaRecord], active: str = "") -> None:
        self.own_name, self.records, self._active = own, records, active
        self.lease = FakeLease(leader, own)
        self.orders: list[tuple[Action, list[str]]] = []
        self.states: dict[str, State | None] = {}
        self.error = ""

    def view(self) -> View:
        lead = self.lease
        return View(
            name=self.own_name, leading=lead.leads, leader=lead.leader, term=1, paused=False,
            problems=(), underway=(),
        )  # fmt: skip

    def state(self, record: ReplicaRecord) -> State | None:
        return self.states.get(record.name, State.READY)

    def is_active(self, record: ReplicaRecord) -> bool:
        return record.name == self._active

    async def order(self, action: Action, others: list[ReplicaRecord]) -> str:
        self.orders.append((action, [other.name for other in others]))
        return self.error


def leading() -> FakeScaler:
    """A leader and its stack."""
    records = [record(Role.SCALER, 0, "127.0.0.1"), record(Role.SCALER, 1, "127.0.0.2")]
    records += [record(Role.KAMAILIO, 0), record(Role.KAMAILIO, 1), record(Role.GATEWAY, 0)]
    return FakeScaler("demo-scaler-0", "demo-scaler-0", records, active="demo-kamailio-1")


def sources(scaler: FakeScaler, journal: Journal, now_takes_s: float = 0.0) -> Sources:
    """What the API answers from; looking at the stack takes ``now_takes_s``."""

    async def now() -> StackNow:
        await asyncio.sleep(now_takes_s)
        return StackNow(subnet=SUBNET, replicas=tuple(Seen(r, None, "not asked") for r in scaler.records))

    async def logs(record: ReplicaRecord, lines: int) -> str:
        if record.role is Role.GATEWAY:
            raise AgentError("GET logs: no answer within 8 s")
        return f"agent: {record.name} is well, {lines}\n"

    return Sources(cast(Scaler, scaler), journal, Metrics().text, now, logs)
