"""Looks at all replicas of a stack at once, for people: each agent is asked, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from sipmediadeploy.protocol.client import AgentError, Agents
from sipmediadeploy.protocol.seen import Seen, StackNow
from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.scaler.model import Target
from sipmediadeploy.stack import Role


async def look(
    records: Iterable[ReplicaRecord], agents: Agents, wanted: Mapping[tuple[Role, int], str], version: str
) -> tuple[Seen, ...]:
    """The replicas of the inventory and what each says now, by role and slot.

    It takes as long as one answer may take. ``wanted`` are the service hashes of up-to-date replicas,
    ``version`` is that of their images.
    """

    async def ask(record: ReplicaRecord) -> Seen:
        outdated = record.config_hash != wanted.get((record.role, record.slot)) or record.version != version
        try:
            return Seen(record, await agents.status(record), outdated=outdated)
        except AgentError as e:
            return Seen(record, None, str(e), outdated)

    order = list(Role)
    seen = await asyncio.gather(*(ask(record) for record in records))
    return tuple(
        sorted(seen, key=lambda one: (order.index(one.record.role), one.record.slot, one.record.name))
    )


async def stack_now(scaler: Scaler, target: Target, agents: Agents, subnet: IPv4Network) -> StackNow:
    """What this scaler sees: the inventory as it was read last, and what the agents say now."""
    seen = await look(scaler.records, agents, target.hashes, target.version)
    return StackNow(
        subnet=subnet,
        replicas=seen,
        floating_ips=scaler.floating_ips,
        inventory_age_s=scaler.inventory_age_s,
    )
