"""The loop: look at the whole stack, compare it with what is wanted, take a small step, look again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sipmediadeploy.protocol.agent import State
from sipmediadeploy.protocol.client import Agents
from sipmediadeploy.protocol.scaler import View
from sipmediadeploy.providers.base import FloatingIp, Provider, ProviderError, ReplicaRecord
from sipmediadeploy.scaler.act import Authority, Event, Executor, some_jitter
from sipmediadeploy.scaler.health import Prober, Serves, not_asked
from sipmediadeploy.scaler.lease import Lease
from sipmediadeploy.scaler.metrics import NOTHING_SEEN, Sight
from sipmediadeploy.scaler.model import (
    SERVICE_ADDRESS_ROLES,
    Action,
    Condition,
    Memory,
    Observation,
    Problem,
    Replica,
    Target,
    Underway,
    condition,
    is_running,
)
from sipmediadeploy.scaler.plan import plan, silent_at_once
from sipmediadeploy.stack import Role

STEP_S = 0.5
INVENTORY_S = 3.0
_INVENTORY_LIMIT_S = 10.0
BLIND_S = 20.0
"""A scaler that could not read the inventory for so long says that it has failed."""
_CLOSE_S = 2.0
"""What runs may end, before the lease is handed over. The engine kills a container after 5 s."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the loop says of itself after each step."""

    leading: bool
    leader: str | None
    """Who leads, as far as is known."""
    term: int
    paused: bool
    problems: tuple[Problem, ...]
    replicas: int
    sight: Sight = NOTHING_SEEN
    blind: str | None = None
    """Why it is of no use: it has not been able to read the inventory for long."""


def _not_timed(_role: Role, _seconds: float | None) -> None:
    pass


def _not_watched(_role: Role) -> float | None:
    return None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a scaler tells others, and asks them."""

    event: Event
    """Told of each action."""
    report: Callable[[Report], None]
    """Called after each step."""
    told: Callable[[str], None]
    """Hears of the lease."""
    unwanted: Callable[[], frozenset[str]] = frozenset
    """The ids of replicas that operators want replaced."""
    timed: Callable[[Role, float | None], None] = _not_timed
    """See :class:`~sipmediadeploy.scaler.health.Prober`."""
    serves: Serves = not_asked
    """See :class:`~sipmediadeploy.scaler.health.Prober`."""
    jitter: Callable[[], float] = some_jitter
    """See :class:`~sipmediadeploy.scaler.act.Executor`."""
    address_silent_s: Callable[[Role], float | None] = _not_watched
    """See :class:`~sipmediadeploy.scaler.address_watch.AddressWatch`."""


class Scaler:
    """Runs the steps of one scaler replica."""

    def __init__(
        self,
        target: Target,
        provider: Provider,
        agents: Agents,
        executor: Callable[[Authority], Executor],
        hooks: Hooks,
    ) -> None:
        """``executor`` makes one that acts by the given authority."""
        self._target = target
        self._provider = provider
        own, store = target.own_name, provider.lease()
        self.lease = Lease(store, own, self._highest_term, self._told, turn=self._turn)
        self._executor = executor(self.lease)
        self._hooks = hooks
        self._problems: tuple[Problem, ...] = ()
        self._underway: tuple[Underway, ...] = ()
        self._wake = asyncio.Event()
        self._hurry = False
        self._prober = Prober(agents, self._turned_bad, hooks.timed, serves=hooks.serves)
        self._records: tuple[ReplicaRecord, ...] = ()
        self._floating_ips: tuple[FloatingIp, ...] = ()
        self._stopped_since: dict[str, float] = {}
        self._read_at: float | None = None
        self._read_error: str | None = None
        self._readable_since: float | None = None
        self._next_read = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._looked_round = False
        """Every replica was asked once: the highest term is known, and who is silent."""
        self._memory = Memory()
        self._deaf_since: float | None = None
        self._handed_over_at: float | None = None
        self._started_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Step until ``stop`` is set; then let what runs end, and hand the lease over."""
        stopping = asyncio.create_task(stop.wait())
        keeping = asyncio.create_task(self.lease.run(stop))
        try:
            while not stop.is_set():
                await self._read_inventory()
                await self._let_another_lead(self._step())
                await self._pause(stopping)
        finally:
            stopping.cancel()
            if self._reading is not None:
                self._reading.cancel()
            await self._prober.close()
            await self._executor.close(_CLOSE_S)
            if not stop.is_set():
                keeping.cancel()
            await asyncio.wait((keeping,))
            await self.lease.release("it stops")

    @property
    def own_name(self) -> str:
        """The name of the scaler's own replica."""
        return self._target.own_name

    @property
    def stack(self) -> str:
        """The stack's name."""
        return self._target.stack.name

    @property
    def records(self) -> tuple[ReplicaRecord, ...]:
        """The inventory as it was read last."""
        return self._records

    @property
    def floating_ips(self) -> tuple[FloatingIp, ...]:
        """The pools' floating IPs as they were read last."""
        return self._floating_ips

    @property
    def inventory_age_s(self) -> float | None:
        """How many seconds ago the inventory was read; None: it has not been yet."""
        return None if self._read_at is None else _now() - self._read_at

    def state(self, record: ReplicaRecord) -> State | None:
        """What the replica said last, unless it is silent."""
        probe = self._prober.probe(record.id)
        silent = probe.silent_for(_now()) >= self._target.timing.silent / 2
        return None if silent or probe.status is None else probe.status.state

    def is_active(self, record: ReplicaRecord) -> bool:
        """The replica said last that it is its pool's active one."""
        status = self._prober.probe(record.id).status
        return bool(status and status.active)

    def view(self) -> View:
        """For operators."""
        lease = self.lease
        return View(
            name=self.own_name,
            leading=lease.leads,
            leader=lease.leader,
            term=lease.term,
            paused=lease.paused,
            problems=tuple(problem.text for problem in self._problems),
            underway=tuple(f"{u.action.kind} {u.action.name}: {u.action.reason}" for u in self._underway),
        )

    async def order(self, action: Action, others: Sequence[ReplicaRecord]) -> str:
        """Have an operator's action done; what went wrong, or nothing."""
        record = next((r for r in self._records if r.id == action.replica_id), None)
        task = self._executor.start(action, record, others)
        if task is None:
            return "the same is under way already"
        return await asyncio.shield(task)

    async def _let_another_lead(self, observation: Observation) -> None:
        """A leader that hears few may be the broken part: another scaler may hear more."""
        now, timing = observation.now, self._target.timing
        silent, known = silent_at_once(self._target, observation) if self.lease.leads else (0, 0)
        if not silent:
            self._deaf_since = None
            return
        if self._deaf_since is None:
            self._deaf_since = now
        others = [r for r in self._records if r.role is Role.SCALER and is_running(r)]
        lately = self._handed_over_at is not None and now - self._handed_over_at < timing.hand_over_again
        if len(others) > 1 and not lately and now - self._deaf_since >= timing.hand_over:
            self._deaf_since, self._handed_over_at = None, now
            await self.lease.release(f"{silent} of {known} replicas are silent, and another may hear more")

    def _step(self) -> Observation:
        began, observation = time.perf_counter(), self._observe()
        leading = self.lease.leads
        problems: tuple[Problem, ...] = ()
        actions: tuple[Action, ...] = ()
        self._underway = ()
        if leading:
            probes = {replica.record.id: replica.probe for replica in observation.replicas}
            underway = self._underway = self._executor.underway(self._read_at, probes, observation.now)
            result = plan(self._target, observation, underway, self._memory)
            if self.lease.paused:
                result = result.watched_only(self._memory)
            self._memory, problems, actions = result.memory, result.problems, result.actions
        else:
            self._memory = Memory()
        self._problems, lease = problems, self.lease
        self._hooks.report(
            Report(
                leading,
                lease.leader,
                lease.term,
                lease.paused,
                problems,
                len(observation.replicas),
                self._sight(observation, time.perf_counter() - began),
                self._blind(observation.now),
            )
        )
        records = {record.id: record for record in self._records}
        for action in actions:  # after the report: the audit trail tells first who leads, then what he does
            others = [r for r in self._records if r.role is action.role and r.id != action.replica_id]
            self._executor.start(action, records.get(action.replica_id), others)
        return observation

    def _blind(self, now: float) -> str | None:
        if self._started_at is None:
            self._started_at = now
        since = self._started_at if self._read_at is None else self._read_at
        if now - since < BLIND_S:
            return None
        return f"it can't read the inventory for {now - since:.0f} s: {self._read_error or 'no answer'}"

    def _sight(self, observation: Observation, step_s: float) -> Sight:
        conditions: Counter[tuple[Role, Condition]] = Counter()
        holders: dict[Role, list[str]] = {}
        for replica in observation.replicas:
            what, _ = condition(replica, observation.now, self._target.timing, self._memory.started_at)
            conditions[replica.record.role, what] += 1
            if replica.active and what not in (Condition.SILENT, Condition.DEAD):
                holders.setdefault(replica.record.role, []).append(replica.name)
        age = None if self._read_at is None else observation.now - self._read_at
        single = {role: names[0] for role, names in holders.items() if len(names) == 1}
        return Sight(conditions, {r: n for r, n in single.items() if r in SERVICE_ADDRESS_ROLES}, age, step_s)

    def _observe(self) -> Observation:
        replicas = tuple(
            Replica(record, self._prober.probe(record.id), self._stopped_since.get(record.id))
            for record in self._records
        )
        silence = {role: self._hooks.address_silent_s(role) for role in SERVICE_ADDRESS_ROLES}
        return Observation(
            _now(),
            replicas,
            self._read_at,
            self._read_error,
            {role: seconds for role, seconds in silence.items() if seconds is not None},
            self._hooks.unwanted(),
            self._floating_ips,
            self._readable_since,
        )

    def _highest_term(self) -> int | None:
        """The highest that an agent has told of; None: not every replica was asked yet, or none answers.

        Who sees nobody is no good leader, and does not know which terms there have been.
        """
        self._looked_round = self._looked_round or (self._read_at is not None and self._prober.all_asked())
        others = [r for r in self._records if r.name != self._target.own_name and is_running(r)]
        statuses = [self._prober.probe(record.id).status for record in others]
        terms = [status.term for status in statuses if status is not None]
        if not self._looked_round or (others and not terms):
            return None
        return max(terms, default=0)

    def _turn(self, holder: str | None) -> int:
        """How many scalers of lower slots, the ``holder`` left out, there seem to be."""
        scalers = sorted((r.slot, r.name) for r in self._records if r.role is Role.SCALER and is_running(r))
        names = [name for _, name in scalers if name != holder]
        return names.index(self.own_name) if self.own_name in names else len(names)

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
                records, floating_ips = await asyncio.gather(
                    self._provider.inventory(), self._provider.floating_ips()
                )
        except (ProviderError, TimeoutError) as e:
            self._read_error = str(e) or f"no answer within {_INVENTORY_LIMIT_S:.0f} s"
            self._readable_since = None
            return
        if self._readable_since is None:
            self._readable_since = began
        stack = self._target.stack.name
        self._records = tuple(record for record in records if record.name.startswith(f"{stack}-"))
        self._floating_ips = tuple(floating_ips)
        self._read_at, self._read_error = began, None
        stopped = {record.id for record in self._records if not is_running(record)}
        self._stopped_since = {id_: self._stopped_since.get(id_, began) for id_ in stopped}
        self._prober.watch(self._records)

    async def _pause(self, stopping: asyncio.Task[bool]) -> None:
        woken = asyncio.create_task(self._wake.wait())
        await asyncio.wait({woken, stopping}, timeout=STEP_S, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        self._wake.clear()

    def _told(self, what: str) -> None:
        """The lease has news: a new leader acts at once."""
        self._hooks.told(what)
        self._wake.set()

    def _turned_bad(self) -> None:
        self._hurry = True
        self._wake.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
