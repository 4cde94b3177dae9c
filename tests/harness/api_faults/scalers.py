"""Scalers of a stack in this process: the real loop, provider and lease, each with a proxy before the cloud.

The replicas have no agent: what agents say is put on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from sipmediadeploy.protocol.agent import Gateways, Order, State, Status
from sipmediadeploy.protocol.client import AgentError
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.providers.openstack.provider import make_provider
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Hooks, Report, Scaler
from sipmediadeploy.scaler.main import Reporter, make_scaler
from sipmediadeploy.scaler.metrics import Metrics
from sipmediadeploy.stack import Role, Stack
from tests.harness.api_faults.fault_proxy import FaultProxy

MASTER = Secrets(master="m" * 43)
SUBNET = IPv4Network("10.88.0.0/24")
"""Of the stack's own network."""
VERSION = "v1"
"""Of the images, for the provider."""


class ReadyAgents:
    """Every replica is well, and the first one of a pool holds its address. Implements ``Agents``."""

    def __init__(self) -> None:
        self._terms: dict[str, int] = {}
        self._gateways: dict[str, str] = {}
        self._active: dict[Role, str] = {}

    async def status(self, record: ReplicaRecord) -> Status:
        has_address = record.role in (Role.KAMAILIO, Role.COTURN)
        return Status(
            name=record.name,
            role=record.role,
            state=State.READY,
            reason="as a test says",
            capacity=4 if record.role is Role.GATEWAY else 0,
            active=self._active.setdefault(record.role, record.id) == record.id if has_address else None,
            version=record.version,
            config_hash=record.config_hash,
            uptime_s=1.0,
            term=self._terms.get(record.id, 0),
            gateways_revision=self._gateways.get(record.id),
        )

    async def order(self, record: ReplicaRecord, what: str, order: Order) -> None:
        self._see(record, order.term)

    async def set_gateways(self, record: ReplicaRecord, gateways: Gateways) -> None:
        self._see(record, gateways.term)
        self._gateways[record.id] = gateways.revision

    def _see(self, record: ReplicaRecord, term: int) -> None:
        if term < self._terms.get(record.id, 0):
            raise AgentError(f"term {term} is older than {self._terms[record.id]}")
        self._terms[record.id] = term


@dataclass
class Running:
    """One scaler at work."""

    scaler: Scaler
    proxy: FaultProxy
    journal: Journal
    steps: list[tuple[float, Report]] = field(default_factory=list)
    """Its reports, each with its ``time.monotonic()``."""

    @property
    def leads(self) -> bool:
        return self.scaler.lease.leads

    @property
    def name(self) -> str:
        return self.scaler.own_name

    def replicas(self, role: Role) -> list[str]:
        """The names of those that it sees."""
        return [record.name for record in self.scaler.records if record.role is role]

    def events(self, event: str) -> list[dict[str, object]]:
        """The fields of its journal's entries of that name."""
        return [entry.fields for entry in self.journal.entries if entry.event == event]

    def longest_pause(self, since: float) -> float:
        """Seconds between two steps, or from the last one until now."""
        times = [at for at, _ in self.steps if at >= since] + [time.monotonic()]
        return max(later - earlier for earlier, later in zip([since, *times], times, strict=False))


@contextlib.asynccontextmanager
async def scaling(
    credentials: Mapping[str, Any], stack: Stack, slot: int, agents: ReadyAgents, path: Path
) -> AsyncIterator[Running]:
    """Run the scaler in ``slot`` of the stack meanwhile; its journal and its state are in ``path``."""
    auth_url = str(credentials["auth"]["auth_url"])
    name, steps = f"{stack.name}-scaler-{slot}", []
    journal = Journal(name, path / f"{name}.jsonl")
    reporter = Reporter(journal, Metrics(), path / f"{name}.alive")

    def report(report: Report) -> None:
        steps.append((time.monotonic(), report))
        reporter(report)

    with FaultProxy(auth_url) as proxy:
        secrets = Secrets(master=MASTER.master, cloud=proxy.credentials(credentials))
        provider = make_provider(stack, VERSION, secrets)
        hooks = Hooks(event=journal.action, report=report, told=journal.event)
        scaler, _, _ = make_scaler(stack, SUBNET, MASTER, VERSION, name, provider, agents, hooks)
        stop = asyncio.Event()
        task = asyncio.create_task(scaler.run(stop))
        try:
            yield Running(scaler, proxy, journal, steps)
        finally:
            proxy.heal()
            stop.set()
            await task
            provider.close()


@dataclass
class Pulse:
    """How long the event loop has been kept from running, at most."""

    worst_s: float = 0.0

    async def beat(self) -> None:
        """Until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.02)
            self.worst_s = max(self.worst_s, time.monotonic() - began - 0.02)


def leads_doubly(journals: Sequence[Journal]) -> list[str]:
    """What is wrong with who led when, by the audit trails of all scalers of a stack; they end now."""
    reigns: list[tuple[float, float, str, int]] = []
    wrong: list[str] = []
    for journal in journals:
        began: tuple[float, int] | None = None
        for entry in journal.entries:
            if entry.event == "leads":
                began = entry.at, int(entry.fields["term"])
            elif entry.event == "stands by" and began is not None:
                reigns.append((began[0], entry.at, entry.who, began[1]))
                began = None
            elif entry.event.endswith(" started") and began is None:
                wrong.append(f"{entry.who} acted at {entry.at:.1f} and did not lead: {entry.event}")
        if began is not None:
            last = journal.entries[-1]
            reigns.append((began[0], time.time(), last.who, began[1]))
    reigns.sort()
    for one in range(len(reigns)):
        for other in reigns[one + 1 :]:
            _, end, who, term = reigns[one]
            if other[2] == who:
                continue
            if other[0] < end:
                wrong.append(f"{other[2]} led from {other[0]:.1f}, and {who} until {end:.1f}")
            if other[3] <= term:
                wrong.append(f"{other[2]} led by term {other[3]} after {who} by term {term}")
    return wrong
