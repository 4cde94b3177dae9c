"""What operators have the leader do."""

from __future__ import annotations

from typing import get_args

from sipmediadeploy.protocol.agent import State
from sipmediadeploy.protocol.scaler import Command
from sipmediadeploy.providers.base import ProviderError, ReplicaRecord
from sipmediadeploy.providers.lease import LeaseGone
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.scaler.model import SERVICE_ADDRESS_ROLES, Action, Kind
from sipmediadeploy.stack import Role

REPLACE = "replace asked"
"""The journal's event by which every later leader knows of it, too; ``replica_id`` says which."""
BY = "an operator asked for it"


class Refused(Exception):
    """The command can't be carried out. The message says why and what to do."""


def unwanted(journal: Journal) -> frozenset[str]:
    """The ids of the replicas that operators wanted replaced."""
    return frozenset(
        str(entry.fields.get("replica_id", "")) for entry in journal.entries if entry.event == REPLACE
    )


class Commands:
    """Carries commands out, on the scaler that leads."""

    def __init__(self, scaler: Scaler, journal: Journal) -> None:
        self._scaler = scaler
        self._journal = journal

    async def run(self, command: str, target: str) -> str:
        """Carry one out; what to tell the operator.

        Raises:
            Refused: it can't be done.
        """
        if command not in get_args(Command):
            raise Refused(f"there is no command {command}")
        try:
            match command:
                case "pause" | "resume":
                    return await self._pause(command == "pause")
                case "failover":
                    return await self._fail_over(target)
                case "replace":
                    return await self._replace(self.replica(target))
                case _:
                    return await self._drain(self.replica(target), Kind(command))
        except (ProviderError, LeaseGone) as e:
            raise Refused(str(e)) from e

    def replica(self, name: str) -> ReplicaRecord:
        """The replica of that name, which may be given without the stack's.

        Raises:
            Refused: there is none.
        """
        records = {record.name: record for record in self._scaler.records}
        found = records.get(name) or records.get(f"{self._scaler.stack}-{name}")
        if found is None:
            names = ", ".join(sorted(records))
            raise Refused(f"no replica is named {name}. There are: {names}")
        return found

    async def _pause(self, paused: bool) -> str:
        await self._scaler.lease.pause(paused)
        self._journal.event("pause asked" if paused else "resume asked", reason=BY)
        if paused:
            return "paused: scalers watch only, until they are resumed"
        return "resumed: the scaler acts again"

    async def _drain(self, record: ReplicaRecord, kind: Kind) -> str:
        if record.role is Role.SCALER:
            raise Refused("a scaler takes no calls that could be drained; there are failover and replace")
        action = Action(kind, record.role, record.name, BY, replica_id=record.id, by="operator")
        await self._do(action)
        if kind is Kind.DRAIN:
            return f"{record.name} takes no new work; its places are made elsewhere. Only undrain ends this"
        return f"{record.name} takes work again"

    async def _replace(self, record: ReplicaRecord) -> str:
        own = record.name == self._scaler.own_name
        if own and not self._others(Role.SCALER, record):
            raise Refused(f"{record.name} leads, and there is no other scaler that could replace it yet")
        self._journal.event(REPLACE, replica=record.name, replica_id=record.id, reason=BY)
        if own:
            await self._scaler.lease.release("an operator wants it replaced")
        return f"{record.name} is being replaced; 'smd events' shows how"

    async def _fail_over(self, pool: str) -> str:
        if pool not in (*SERVICE_ADDRESS_ROLES, Role.SCALER):
            raise Refused(f"the pool {pool} has no active replica; kamailio, coturn and scaler have one")
        role = Role(pool)
        if role is Role.SCALER:
            if not any(r.name != self._scaler.own_name for r in self._ready(role)):
                raise Refused("there is no other scaler that is ready")
            self._journal.event("failover asked", replica=self._scaler.own_name, reason=BY)
            await self._scaler.lease.release(BY)
            return "another scaler leads in a moment"
        active = [r for r in self._scaler.records if r.role is role and self._scaler.is_active(r)]
        if len(active) != 1:
            raise Refused(f"{len(active)} replicas of {pool} say that they are active; there must be one")
        others = self._others(role, active[0])
        if not others:
            raise Refused(f"no other replica of {pool} is ready to take over from {active[0].name}")
        action = Action(Kind.FAILOVER, role, active[0].name, BY, replica_id=active[0].id)
        await self._do(action, others)
        return f"{active[0].name} is standby now"

    async def _do(self, action: Action, others: list[ReplicaRecord] | None = None) -> None:
        error = await self._scaler.order(action, others or [])
        if error:
            raise Refused(f"{action.kind} {action.name}: {error}")

    def _ready(self, role: Role) -> list[ReplicaRecord]:
        return [r for r in self._scaler.records if r.role is role and self._scaler.state(r) is State.READY]

    def _others(self, role: Role, than: ReplicaRecord) -> list[ReplicaRecord]:
        return [record for record in self._ready(role) if record.id != than.id]
