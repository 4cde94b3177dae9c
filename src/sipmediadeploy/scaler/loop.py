"""The loop: look at the whole stack, compare it with what is wanted, take a small step, look again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sipmediadeploy.protocol.agent import State
from sipmediadeploy.protocol.client import Agents
from sipmediadeploy.providers.base import Provider, ProviderError, ReplicaRecord
from sipmediadeploy.scaler.act import Executor
from sipmediadeploy.scaler.health import Prober
from sipmediadeploy.scaler.model import Memory, Observation, Replica, Target, is_running
from sipmediadeploy.scaler.plan import plan
from sipmediadeploy.stack import Role

STEP_S = 0.5
INVENTORY_S = 3.0
_INVENTORY_LIMIT_S = 10.0
_CLOSE_S = 8.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the loop says of itself after each step."""

    leading: bool
    term: int
    problems: tuple[str, ...]
    replicas: int


class Scaler:
    """Runs the steps of one scaler replica."""

    def __init__(
        self,
        target: Target,
        provider: Provider,
        agents: Agents,
        executor: Executor,
        report: Callable[[Report], None],
    ) -> None:
        """``report`` is called after each step."""
        self._target = target
        self._provider = provider
        self._executor = executor
        self._report = report
        self._wake = asyncio.Event()
        self._hurry = False
        self._prober = Prober(agents, self._turned_bad)
        self._records: tuple[ReplicaRecord, ...] = ()
        self._stopped_since: dict[str, float] = {}
        self._read_at: float | None = None
        self._read_error: str | None = None
        self._next_read = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._lower_lived_at: float | None = None
        self._looked_round = False
        """Every replica was asked once: the highest term is known, and who is silent."""
        self._memory = Memory()

    async def run(self, stop: asyncio.Event) -> None:
        """Step until ``stop`` is set; then let what runs end."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._read_inventory()
                self._step()
                await self._pause(stopping)
        finally:
            stopping.cancel()
            if self._reading is not None:
                self._reading.cancel()
            await self._prober.close()
            await self._executor.close(_CLOSE_S)

    def _step(self) -> None:
        observation = self._observe()
        leading = self._may_lead(observation)
        problems: tuple[str, ...] = ()
        if leading:
            probes = {replica.record.id: replica.probe for replica in observation.replicas}
            underway = self._executor.underway(self._read_at, probes, observation.now)
            result = plan(self._target, observation, underway, self._memory)
            self._memory, problems = result.memory, result.problems
            records = {record.id: record for record in self._records}
            for action in result.actions:
                self._executor.start(action, records.get(action.replica_id), self._memory.term)
        else:
            self._memory = Memory()
        self._report(Report(leading, self._memory.term, problems, len(observation.replicas)))

    def _observe(self) -> Observation:
        replicas = tuple(
            Replica(record, self._prober.probe(record.id), self._stopped_since.get(record.id))
            for record in self._records
        )
        return Observation(_now(), replicas, self._read_at, self._read_error)

    def _may_lead(self, observation: Observation) -> bool:
        """Only the scaler in the lowest live slot acts (docs/decisions/0061-lowest-slot-acts.md)."""
        now = observation.now
        self._looked_round = self._looked_round or (self._read_at is not None and self._prober.all_asked())
        if not self._looked_round:
            return False
        if self._lower_lived_at is None:
            self._lower_lived_at = now - self._target.timing.takeover
        if lower_scaler_lives(self._target, observation):
            self._lower_lived_at = now
        return now - self._lower_lived_at >= self._target.timing.takeover

    async def _read_inventory(self) -> None:
        """Begin a reading when one is due and wait for it a little: a slow provider does not stop us."""
        due = self._hurry or _now() >= self._next_read or self._executor.awaits_inventory(self._read_at)
        if self._reading is None and due:
            self._hurry = False
            self._next_read = _now() + INVENTORY_S
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=STEP_S)
            if self._reading.done():
                self._reading = None

    async def _read(self) -> None:
        began = _now()
        try:
            async with asyncio.timeout(_INVENTORY_LIMIT_S):
                records = await self._provider.inventory()
        except (ProviderError, TimeoutError) as e:
            self._read_error = str(e) or f"no answer within {_INVENTORY_LIMIT_S:.0f} s"
            return
        stack = self._target.stack.name
        self._records = tuple(record for record in records if record.name.startswith(f"{stack}-"))
        self._read_at, self._read_error = began, None
        stopped = {record.id for record in self._records if not is_running(record)}
        self._stopped_since = {id_: self._stopped_since.get(id_, began) for id_ in stopped}
        self._prober.watch(self._records)

    async def _pause(self, stopping: asyncio.Task[bool]) -> None:
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait({woken, stopping}, timeout=STEP_S, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        self._wake.clear()

    def _turned_bad(self) -> None:
        self._hurry = True
        self._wake.set()


def lower_scaler_lives(target: Target, observation: Observation) -> bool:
    """Whether a scaler in a lower slot than the own one runs and has answered in the last seconds."""
    own = [r for r in observation.replicas if r.name == target.own_name]
    if not own:
        return False
    return any(
        replica.record.role is Role.SCALER
        and replica.record.slot < own[0].record.slot
        and is_running(replica.record)
        and replica.probe.answered_at is not None
        and replica.probe.silent_for(observation.now) < target.timing.silent
        and replica.status is not None
        and replica.status.state is not State.FAILED
        for replica in observation.replicas
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
