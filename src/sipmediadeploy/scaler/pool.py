"""One pool as planning sees it: its members, what is under way, and the bounds of creating more. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

from sipmediadeploy.providers.base import Life
from sipmediadeploy.scaler.model import (
    MAX_CREATIONS,
    SURGE,
    Action,
    Condition,
    Kind,
    Memory,
    Observation,
    Replica,
    Target,
    Underway,
    condition,
)
from sipmediadeploy.stack import Role

_LONGEST_FLOP_DELAY_S = 120.0


@dataclass(frozen=True, slots=True)
class Member:
    """A replica of the pool, and what to make of it."""

    replica: Replica
    condition: Condition
    why: str
    outdated: str
    """Why it is to be replaced though it works; empty: it is not."""
    active: bool = False
    """It is the one that the pool's callers reach."""

    @property
    def name(self) -> str:
        """The replica's name."""
        return self.replica.name

    @property
    def bad(self) -> bool:
        """It does not do its job and has to be replaced."""
        return self.condition in (Condition.FAILED, Condition.SILENT, Condition.DEAD)

    @property
    def leaving_for_scaler(self) -> bool:
        """It is drained, and not by an operator."""
        status = self.replica.status
        by_operator = status is not None and status.drained_by == "operator" and not status.retired
        return self.condition is Condition.LEAVING and not by_operator


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of one role at one time."""

    role: Role
    now: float
    target: Target
    limit: int
    """The greatest number of good replicas that it may have."""
    members: tuple[Member, ...]
    underway: tuple[Underway, ...]
    flops: tuple[int, float] | None
    address_silence: float | None
    """For how many seconds its service address has not answered; None: not known."""

    @property
    def creating(self) -> int:
        """Replicas that have been asked for and not yet seen."""
        return len(self._creations())

    def of(self, *conditions: Condition) -> list[Member]:
        """The members in one of ``conditions``."""
        return [member for member in self.members if member.condition in conditions]

    def may_act(self, member: Member) -> bool:
        """Whether nothing is under way for the member, and it is not this scaler itself."""
        if member.name == self.target.own_name:
            return False
        ids = {u.action.replica_id for u in self.underway if u.action.kind is not Kind.SET_GATEWAYS}
        return member.replica.record.id not in ids

    def is_under_way(self, kind: Kind, member: Member) -> bool:
        """Whether ``kind`` has been asked for on ``member`` and not failed."""
        id_ = member.replica.record.id
        asked = [u for u in self.underway if u.action.replica_id == id_ and u.action.kind is kind]
        return any(u.retry_at is None for u in asked)

    def order(self, kind: Kind, member: Member, reason: str) -> list[Action]:
        """The action ``kind`` on ``member``, unless something is under way for it."""
        if not self.may_act(member):
            return []
        return [Action(kind, self.role, member.name, reason, replica_id=member.replica.record.id)]

    def free_slots(self) -> list[int]:
        """Slots that nothing is in and nothing is being made for."""
        taken = {member.replica.record.slot for member in self.members}
        taken |= {creation.action.slot for creation in self._creations()}
        return [slot for role, slot in sorted(self.target.hashes) if role is self.role and slot not in taken]

    def room(self) -> int:
        """How many replicas may be created now."""
        if any(u.retry_at is not None and u.action.kind is Kind.CREATE for u in self._of_role()):
            return 0
        if self.flops is not None:
            count, last = self.flops
            if self.now < last + min(2.0**count, _LONGEST_FLOP_DELAY_S):
                return 0
        booting = len(self.of(Condition.BOOTING)) + self.creating
        total = len(self.members) + self.creating
        return max(0, min(MAX_CREATIONS - booting, self.limit + SURGE - total, len(self.free_slots())))

    def create(self, count: int, reason: str) -> list[Action]:
        """``count`` creations, or as many as there is room for."""
        count = min(count, self.room()) if count > 0 else 0
        if count <= 0:
            return []
        number = next_number(self._names())
        return [
            Action(
                Kind.CREATE,
                self.role,
                replica_name(self.target.stack.name, self.role, number + i),
                reason,
                slot,
                zone,
            )
            for (i, slot), zone in zip(enumerate(self.free_slots()[:count]), self._zones(), strict=False)
        ]

    def map_floating_ip(self, address: str, to: str, reason: str) -> list[Action]:
        """The mapping of a floating IP of the pool, unless one is under way."""
        return self._unless_under_way(Action(Kind.MAP_FLOATING_IP, self.role, address, reason, mapped_to=to))

    def make_floating_ip(self, to: str, reason: str) -> list[Action]:
        """The pool's floating IP, unless it is being made."""
        name = f"floating IP of {self.role}"
        return self._unless_under_way(Action(Kind.MAKE_FLOATING_IP, self.role, name, reason, mapped_to=to))

    def _unless_under_way(self, action: Action) -> list[Action]:
        return [] if any(u.action.key == action.key for u in self.underway) else [action]

    def _zones(self) -> Iterator[str]:
        """For each creation, the zone that has the fewest replicas of the pool by then."""
        if not self.target.zones:
            yield from repeat("")
        there = Counter(member.replica.record.zone for member in self.members if not member.bad)
        there.update(creation.action.zone for creation in self._creations())
        while True:
            zone = min(self.target.zones, key=lambda zone: there[zone])
            there[zone] += 1
            yield zone

    def _of_role(self) -> list[Underway]:
        return [u for u in self.underway if u.action.role is self.role]

    def _creations(self) -> list[Underway]:
        seen = {member.name for member in self.members}
        return [
            u
            for u in self._of_role()
            if u.action.kind is Kind.CREATE and u.retry_at is None and u.action.name not in seen
        ]

    def _names(self) -> list[str]:
        return [member.name for member in self.members] + [u.action.name for u in self._of_role()]


def replica_name(stack: str, role: Role, number: int) -> str:
    """The name of a replica: ``STACK-ROLE-NUMBER``."""
    return f"{stack}-{role}-{number}"


def next_number(names: Iterable[str]) -> int:
    """The number for a new replica: greater than that of every one in ``names``."""
    found = (re.search(r"-(\d+)$", name) for name in names)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)


def view(
    role: Role,
    limit: int,
    target: Target,
    observation: Observation,
    underway: tuple[Underway, ...],
    memory: Memory,
) -> Pool:
    """The pool of ``role`` as observed."""
    members = []
    mapped = {ip.mapped_to for ip in observation.floating_ips}
    for replica in observation.replicas:
        record = replica.record
        if record.role is not role:
            continue
        what, why = condition(replica, observation.now, target.timing, memory.started_at)
        if replica.name == target.own_name:
            what = Condition.USABLE  # It is at work right now, whatever its agent says.
        elif what is Condition.FAILED and role is Role.SCALER and not _steady(observation, target):
            what, why = Condition.USABLE, "may not know yet that the inventory can be read again"
        wanted = target.hashes.get((role, record.slot))
        outdated = "outdated" if record.config_hash != wanted or record.version != target.version else ""
        if record.life is Life.FAILED:
            outdated = "failed, says the provider"
        if record.id in observation.unwanted:
            outdated = "to be replaced, says an operator"
        by_mapping = not target.service_addresses and role is not Role.SCALER
        active = record.id in mapped if by_mapping else replica.active
        members.append(Member(replica, what, why, outdated, active))
    members.sort(key=lambda member: (member.replica.record.slot, member.name))
    return Pool(
        role,
        observation.now,
        target,
        limit,
        tuple(members),
        underway,
        memory.flops.get(role),
        observation.address_silence.get(role),
    )


def _steady(observation: Observation, target: Target) -> bool:
    since = observation.readable_since
    return since is not None and observation.now - since >= target.timing.readable


def named(members: list[Member]) -> str:
    """The members' names and what is wrong with them, for a reason."""
    return "; ".join(f"{member.name}: {member.why}" for member in members)
