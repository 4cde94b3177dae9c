"""Acting: runs actions side by side, each with a time limit, and knows what is under way.

What was asked for and not yet seen counts as there: an action stays under way until the inventory or the
agent was read after it ended. One that failed stays, too, until its backoff is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from sipmediadeploy.protocol.agent import Gateways, Order
from sipmediadeploy.protocol.client import AgentError, Agents
from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.providers.base import Provider, ProviderError, ReplicaRecord
from sipmediadeploy.scaler.model import UNSEEN_ORDER_S, Action, Kind, Probe, Underway
from sipmediadeploy.stack import Limits, Role

LIMITS_S: Mapping[Kind, float] = {
    Kind.CREATE: 180.0,
    Kind.DELETE: 60.0,
    Kind.DRAIN: 5.0,
    Kind.UNDRAIN: 5.0,
    Kind.RETIRE: 5.0,
    Kind.SET_GATEWAYS: 5.0,
    Kind.FAILOVER: 15.0,
    Kind.MAP_FLOATING_IP: 30.0,
    Kind.MAKE_FLOATING_IP: 30.0,
}
_OF_THE_PROVIDER = (Kind.CREATE, Kind.DELETE, Kind.MAP_FLOATING_IP, Kind.MAKE_FLOATING_IP)
"""The lease is read again before each; its effect is seen in the inventory."""
_LONGEST_BACKOFF_S: Mapping[Kind, float] = {
    Kind.CREATE: 120.0,
    Kind.DELETE: 60.0,
    Kind.MAKE_FLOATING_IP: 60.0,
}
_LONGEST_ORDER_BACKOFF_S = 5.0
_FAILOVER_S, _FAILOVER_LOOK_S = 8.0, 0.1


class Authority(Protocol):
    """Whether this scaler may send requests; its :class:`~sipmediadeploy.scaler.lease.Lease`."""

    @property
    def leads(self) -> bool:
        """As far as it knows."""
        ...

    @property
    def term(self) -> int:
        """The term that orders carry."""
        ...

    async def confirm(self) -> bool:
        """As the lease's store sees it now; raises ``ProviderError`` when that can't be read."""
        ...


class NotLeading(Exception):
    """The lease was lost before the request was sent: it is the new leader's to decide."""


Event = Callable[[str, Action, str], None]
"""Told of each action: 'started', 'done', 'failed' or 'dropped', the action, and what went wrong."""


def some_jitter() -> float:
    """0.75 to 1.25: who failed together need not try again together."""
    return random.uniform(0.75, 1.25)  # noqa: S311


@dataclass(slots=True)
class _Entry:
    action: Action
    task: asyncio.Task[str] | None = None
    ended_at: float | None = None
    retry_at: float | None = None


class Executor:
    """Runs the plan's actions on the provider and the agents."""

    def __init__(
        self,
        provider: Provider,
        agents: Agents,
        authority: Authority,
        document: Callable[[Role, int, str], ReplicaDocument],
        limits: Callable[[Role], Limits],
        event: Event,
        jitter: Callable[[], float] = some_jitter,
    ) -> None:
        """``document`` makes a new replica's document, ``limits`` gives a role's resource limits; a pause
        after a failure is multiplied by ``jitter``.
        """
        self._jitter = jitter
        self._provider = provider
        self._agents = agents
        self._authority = authority
        self._document = document
        self._limits = limits
        self._event = event
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._failures: dict[tuple[str, str], int] = {}

    def start(
        self, action: Action, record: ReplicaRecord | None, others: Sequence[ReplicaRecord] = ()
    ) -> asyncio.Task[str] | None:
        """Begin ``action`` (on ``record``, except for a creation); None: the same is under way.

        ``others``: for a failover, the replicas that may take over. The task's result is what went wrong.
        """
        if action.key in self._entries:
            return None
        entry = self._entries[action.key] = _Entry(action)
        self._event("started", action, "")
        entry.task = asyncio.create_task(self._run(entry, record, others))
        return entry.task

    def underway(
        self, inventory_at: float | None, probes: Mapping[str, Probe], now: float
    ) -> tuple[Underway, ...]:
        """What is under way, given when the inventory and the agents were last read."""
        for key, entry in list(self._entries.items()):
            if _is_over(entry, inventory_at, probes, now):
                del self._entries[key]
        return tuple(Underway(entry.action, entry.retry_at) for entry in self._entries.values())

    def awaits_inventory(self, inventory_at: float | None) -> bool:
        """Whether a creation or deletion has ended since the inventory was read."""
        return any(
            entry.ended_at is not None
            and entry.action.kind in _OF_THE_PROVIDER
            and (inventory_at is None or inventory_at <= entry.ended_at)
            for entry in self._entries.values()
        )

    async def close(self, within_s: float) -> None:
        """Let what runs end within ``within_s`` seconds, then cancel it."""
        tasks = [entry.task for entry in self._entries.values() if entry.task and not entry.task.done()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, entry: _Entry, record: ReplicaRecord | None, others: Sequence[ReplicaRecord]) -> str:
        action, clock = entry.action, asyncio.get_running_loop().time
        limit, error = LIMITS_S[action.kind], ""
        try:
            async with asyncio.timeout(limit):
                await self._perform(action, record, others)
        except NotLeading as e:
            error = str(e)
            self._event("dropped", action, error)
        except (ProviderError, AgentError, TimeoutError, ValueError) as e:
            # A creation that failed says something of the provider, so that it delays the role's next one.
            counter = (action.kind, action.role) if action.kind is Kind.CREATE else action.key
            failures = self._failures[counter] = self._failures.get(counter, 0) + 1
            longest = _LONGEST_BACKOFF_S.get(action.kind, _LONGEST_ORDER_BACKOFF_S)
            pause = min(2.0 ** (failures - 1), longest) * self._jitter()
            entry.retry_at = clock() + max(pause, getattr(e, "retry_after_s", None) or 0.0)
            error = str(e) or f"not done within {limit:.0f} s"
            self._event("failed", action, error)
        else:
            self._failures.pop((action.kind, action.role), None)
            self._failures.pop(action.key, None)
            self._event("done", action, "")
        finally:
            entry.ended_at = clock()
        return error

    async def _perform(
        self, action: Action, record: ReplicaRecord | None, others: Sequence[ReplicaRecord]
    ) -> None:
        lasting = action.kind in _OF_THE_PROVIDER
        if not (await self._authority.confirm() if lasting else self._authority.leads):
            raise NotLeading("this scaler does not lead any more")
        term = self._authority.term
        if action.kind is Kind.CREATE:
            document = self._document(action.role, action.slot, action.name)
            await self._provider.create(document, self._limits(action.role), action.zone)
        elif action.kind is Kind.DELETE:
            await self._provider.delete(action.replica_id)
        elif action.kind is Kind.MAP_FLOATING_IP:
            await self._provider.map_floating_ip(IPv4Address(action.name), action.mapped_to)
        elif action.kind is Kind.MAKE_FLOATING_IP:
            await self._provider.make_floating_ip(action.role, action.mapped_to)
        elif record is None:
            raise AgentError(f"{action.name} is not there any more")
        elif action.kind is Kind.SET_GATEWAYS:
            await self._agents.set_gateways(record, Gateways(term=term, gateways=action.gateways))
        elif action.kind is Kind.FAILOVER:
            await self._fail_over(record, others, term)
        else:
            await self._agents.order(record, action.kind, Order(term=term, by=action.by))

    async def _fail_over(self, active: ReplicaRecord, others: Sequence[ReplicaRecord], term: int) -> None:
        """Lower the active replica's priority until another one says that it is active."""
        await self._agents.order(active, Kind.DRAIN, Order(term=term))
        try:
            async with asyncio.timeout(_FAILOVER_S):
                await self._until_active(others)
        except TimeoutError:
            raise AgentError(f"no other replica was active within {_FAILOVER_S:g} s") from None
        finally:
            await self._agents.order(active, Kind.UNDRAIN, Order(term=term))

    async def _until_active(self, records: Sequence[ReplicaRecord]) -> None:
        while True:
            answers = await asyncio.gather(
                *(self._agents.status(record) for record in records), return_exceptions=True
            )
            if any(not isinstance(answer, BaseException) and answer.active for answer in answers):
                return
            await asyncio.sleep(_FAILOVER_LOOK_S)


def _is_over(entry: _Entry, inventory_at: float | None, probes: Mapping[str, Probe], now: float) -> bool:
    if entry.ended_at is None:
        return False
    if entry.action.kind in _OF_THE_PROVIDER:
        seen = inventory_at is not None and inventory_at > entry.ended_at
    else:
        probe = probes.get(entry.action.replica_id)
        answered = probe is not None and probe.answered_at is not None and probe.answered_at > entry.ended_at
        seen = answered or now - entry.ended_at >= UNSEEN_ORDER_S
    return now >= entry.retry_at and seen if entry.retry_at is not None else seen
