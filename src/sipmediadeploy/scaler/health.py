"""Health: asks every replica's agent for its status, side by side, all the time.

A question that was not answered is repeated quickly: one lost packet is no fault. Of a replica whose agent
stays silent the service itself is asked, as a caller does: a dead agent is one thing, a dead replica another.
Probing does not depend on the provider: it goes on while the inventory can't be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.protocol.client import AgentError, Agents
from sipmediadeploy.protocol.replica import GATEWAY_SIP_PORT
from sipmediadeploy.protocol.sip_options import ProbeError, sip_options
from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.scaler.model import SERVICE_ADDRESS_ROLES, Probe
from sipmediadeploy.stack import GATEWAY_SIDE_SIP_PORT, Role

INTERVAL_S = 1.0
SERVICE_ADDRESS_INTERVAL_S = 0.5
"""For the few replicas that all callers depend on."""
REPEATS = 3
REPEAT_S = 0.2
_NEW_S = 30.0
"""A replica first seen so soon after its creation has not worked unseen."""
_SERVICE_LIMIT_S = 1.0
_SERVICE_PORTS = {Role.GATEWAY: GATEWAY_SIP_PORT, Role.KAMAILIO: GATEWAY_SIDE_SIP_PORT}

Serves = Callable[[ReplicaRecord], Awaitable[bool | None]]
"""Whether the replica's service answers on the replica's own address; None: it can't be asked there."""


async def serves(record: ReplicaRecord) -> bool | None:
    """Ask a Kamailio or a gateway with OPTIONS. (Coturn listens on the service address only.)"""
    port = _SERVICE_PORTS.get(record.role)
    if port is None:
        return None
    try:
        await sip_options(record.address, port, _SERVICE_LIMIT_S)
    except ProbeError:
        return False
    return True


async def not_asked(_record: ReplicaRecord) -> bool | None:
    """Of no service it is known."""
    return None


class Prober:
    """Keeps one :class:`Probe` per replica up to date."""

    def __init__(
        self,
        agents: Agents,
        turned_bad: Callable[[], None],
        timed: Callable[[Role, float | None], None] = lambda _role, _seconds: None,
        limit_s: float = 1.5,
        serves: Serves = not_asked,
    ) -> None:
        """``turned_bad`` is called when a replica that answered does not any more, asked twice; ``timed``
        after each question, with the seconds that the answer took, or None.
        """
        self._serves = serves
        self._timed = timed
        self._agents = agents
        self._turned_bad = turned_bad
        self._limit_s = limit_s
        self._probes: dict[str, Probe] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, records: Iterable[ReplicaRecord]) -> None:
        """Watch these replicas and no others."""
        wanted = {record.id: record for record in records}
        for gone in [id_ for id_ in self._tasks if id_ not in wanted]:
            self._tasks.pop(gone).cancel()
            self._probes.pop(gone, None)
        for new in [id_ for id_ in wanted if id_ not in self._tasks]:
            record = wanted[new]
            fresh = time.time() - record.created_at < _NEW_S
            self._probes[new] = Probe(first_seen=_now(), seen_new=fresh)
            self._tasks[new] = asyncio.create_task(self._probe_forever(record))

    def probe(self, replica_id: str) -> Probe:
        """The newest probe of a watched replica."""
        return self._probes[replica_id]

    def all_asked(self) -> bool:
        """Whether every watched replica has answered or failed to at least once."""
        unasked = Probe(first_seen=0.0).error
        return all(p.answered_at is not None or p.error != unasked for p in self._probes.values())

    async def close(self) -> None:
        """Stop probing."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _probe_forever(self, record: ReplicaRecord) -> None:
        interval_s = SERVICE_ADDRESS_INTERVAL_S if record.role in SERVICE_ADDRESS_ROLES else INTERVAL_S
        failures = 0
        while True:
            sent = _now()
            before = self._probes[record.id]
            try:
                async with asyncio.timeout(self._limit_s):
                    status = await self._agents.status(record)
                if status.name != record.name:
                    raise AgentError(f"{status.name} answers in its place")
            except (AgentError, TimeoutError) as e:
                failures += 1
                self._probes[record.id] = replace(before, error=str(e) or "no answer in time")
                self._timed(record.role, None)
                if failures == 2 and before.answered_at is not None:
                    self._turned_bad()
                if failures > 1:
                    await self._ask_service(record)
            else:
                failures = 0
                self._probes[record.id] = answered(before, status, sent)
                self._timed(record.role, _now() - sent)
            pause_s = REPEAT_S if 0 < failures <= REPEATS else sent + interval_s - _now()
            await asyncio.sleep(max(0.1, pause_s))

    async def _ask_service(self, record: ReplicaRecord) -> None:
        sent = _now()
        answers = await self._serves(record)
        before = self._probes[record.id]
        served_at = sent if answers else before.served_at
        self._probes[record.id] = replace(before, serves=answers, served_at=served_at)


def answered(before: Probe, status: Status, sent: float) -> Probe:
    """The probe after an answer to the question sent at ``sent``."""
    ready = status.state in (State.READY, State.BUSY)
    return replace(
        before,
        answered_at=sent,
        status=status,
        error="",
        serves=None,
        ready_at=sent if ready and before.ready_at is None else before.ready_at,
        failed_since=(before.failed_since or sent) if status.state is State.FAILED else None,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
