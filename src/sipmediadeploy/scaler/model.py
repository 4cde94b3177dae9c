"""The scaler's facts: what was seen, what is wanted, what is under way, what to do. Values only.

Times are seconds of one monotonic clock, except where a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from sipmediadeploy.protocol.agent import Gateway, State, Status
from sipmediadeploy.providers.base import FloatingIp, Life, ReplicaRecord
from sipmediadeploy.stack import Role, Stack

SERVICE_ADDRESS_ROLES = (Role.KAMAILIO, Role.COTURN)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the scaler waits for what, in seconds."""

    silent: float = 5.0
    """A replica that answered before and has not for so long is silent, and is replaced."""
    failed: float = 5.0
    """A replica that says so long that it has failed is replaced."""
    stopped: float = 2.0
    """A replica that the provider has seen stopped for so long is dead (engines restart what crashed)."""
    booting: float = 90.0
    """A replica that is not ready so long after it was made never came up."""
    delete_silent_gateway: float = 600.0
    """A silent gateway may carry calls that only the scaler can't see: it is deleted so late, and not
    while its SIP service answers."""
    delete_silent: float = 60.0
    """A silent replica of another pool is deleted so late, when the others are whole."""
    address: float = 3.0
    """A service address with no holder, or two, or no answer for so long is a problem (moving it takes one
    second)."""
    address_moved: float = 5.0
    """One that has a holder and does not answer for so long is moved to another replica."""
    address_again: float = 60.0
    """It is moved for that reason once in so long: what did not help need not be repeated at once."""
    lost: float = 2.0
    """Where floating IPs are mapped anew: a holder of whom nothing answers for so long loses it."""
    remap_again: float = 10.0
    """Each is mapped anew once in so long: two replicas that come and go must not drive it to and fro."""
    hand_over: float = 6.0
    """A leader that has not heard most replicas for so long lets another scaler try."""
    hand_over_again: float = 60.0
    """It does so once in so long: perhaps nobody hears them."""
    readable: float = 10.0
    """So long after an outage of the provider other scalers may still say that they see nothing."""
    inventory_stale: float = 15.0
    """An inventory older than this is no ground for creating or deleting."""


MAX_CREATIONS = 4
"""Replicas of one pool that are being made or booting at a time."""
SURGE = 2
"""How many replicas a pool may have beyond its number or ``max``, dead and leaving ones included."""


UNSEEN_ORDER_S = 3.0
"""Seconds: an order to an agent whose effect has not been seen for so long may be given again."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the agent of one replica has said, or how it fails to."""

    first_seen: float
    seen_new: bool = False
    """Seen within seconds of its creation: it has never carried a call unless it has answered."""
    answered_at: float | None = None
    status: Status | None = None
    """The last good answer; it may be old."""
    ready_at: float | None = None
    """When it first said that it is ready."""
    failed_since: float | None = None
    """Since when it says that it has failed; None: it does not."""
    error: str = "not asked yet"
    serves: bool | None = None
    """Whether the service itself answered, asked because the agent did not; None: not known."""
    served_at: float | None = None
    """When it did so last."""

    @property
    def service(self) -> str:
        """What is known of the service beside a silent agent, in an operator's words; empty: nothing."""
        return {None: "", True: "its service answers", False: "its service does not answer either"}[
            self.serves
        ]

    @property
    def silence(self) -> str:
        """How the replica is silent, in an operator's words."""
        if not self.service:
            return f"silent ({self.error})"
        return f"its agent is silent ({self.error}), {self.service}"

    def silent_for(self, now: float) -> float:
        """Seconds without an answer of the agent."""
        return now - (self.first_seen if self.answered_at is None else self.answered_at)

    def lost_for(self, now: float) -> float:
        """Seconds without an answer of the agent or the service."""
        return min(self.silent_for(now), now - (self.served_at or self.first_seen))


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica: the provider's record and the probe of its agent."""

    record: ReplicaRecord
    probe: Probe
    stopped_since: float | None = None

    @property
    def name(self) -> str:
        """The replica's name."""
        return self.record.name

    @property
    def status(self) -> Status | None:
        """The last thing its agent said."""
        return self.probe.status

    @property
    def calls(self) -> int:
        """Calls that it had when it last answered."""
        return self.probe.status.calls if self.probe.status else 0

    @property
    def active(self) -> bool:
        """It said last that it holds the service address."""
        return bool(self.probe.status and self.probe.status.active)


@dataclass(frozen=True, slots=True)
class Observation:
    """The world as it was seen last."""

    now: float
    replicas: tuple[Replica, ...]
    inventory_at: float | None
    """When the last good reading of the inventory began; None: never."""
    inventory_error: str | None = None
    """Why the last reading failed; None: it did not."""
    address_silence: Mapping[Role, float] = field(default_factory=dict)
    """By role: for how many seconds the service address has not answered a caller; absent: not known."""
    unwanted: frozenset[str] = frozenset()
    """Ids of replicas that an operator wants replaced."""
    floating_ips: tuple[FloatingIp, ...] = ()
    readable_since: float | None = None
    """Since when every reading of the inventory was good; None: the last one was not."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted: the stack and what an up-to-date replica looks like."""

    stack: Stack
    version: str
    hashes: Mapping[tuple[Role, int], str]
    """The service hash of an up-to-date replica, by role and slot. These are the slots that may be used."""
    own_name: str
    """The name of the scaler's own replica."""
    timing: Timing = Timing()
    service_addresses: bool = True
    """See ``providers.base.Provider``."""
    api_floating_ip: bool = False
    """See ``providers.base.Provider``."""
    zones: tuple[str, ...] = ()
    """See ``providers.base.Provider``."""


class Kind(StrEnum):
    """What an action does."""

    CREATE = "create"
    DELETE = "delete"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    RETIRE = "retire"
    SET_GATEWAYS = "set_gateways"
    MAP_FLOATING_IP = "map_floating_ip"
    MAKE_FLOATING_IP = "make_floating_ip"
    FAILOVER = "failover"
    """Planned: the active replica drains until another one is active."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, and why, in an operator's words."""

    kind: Kind
    role: Role
    name: str
    reason: str
    slot: int = -1
    """``create``: where. Otherwise unused."""
    zone: str = ""
    """``create``: in which of the provider's zones; empty: it has none."""
    mapped_to: str = ""
    """``map_floating_ip``, ``make_floating_ip``: to what the floating IP ``name`` is to be mapped."""
    replica_id: str = ""
    """Everything but ``create``: on which replica."""
    gateways: tuple[Gateway, ...] = ()
    """``set_gateways``: the list."""
    by: Literal["scaler", "operator"] = "scaler"
    """``drain``, ``undrain``: in whose name."""

    @property
    def key(self) -> tuple[str, str]:
        """What a second one of the same must not be started beside."""
        named = self.kind in (Kind.CREATE, Kind.MAP_FLOATING_IP, Kind.MAKE_FLOATING_IP)
        return self.kind, self.name if named else self.replica_id


@dataclass(frozen=True, slots=True)
class Underway:
    """An action that was started and has not been seen to have taken effect, or waits after a failure."""

    action: Action
    retry_at: float | None = None
    """It failed, and may be tried again at that time; None: it runs, or its effect is not seen yet."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What planning carries from one step to the next."""

    demand: tuple[tuple[float, int], ...] = ()
    """Gateways needed at past times, later entries smaller: the peak of the cool-down window comes first."""
    started_at: float | None = None
    flops: Mapping[Role, tuple[int, float]] = field(default_factory=dict)
    """By role: replicas in succession that never came up, and when the last one was given up."""
    address_moved: Mapping[Role, float] = field(default_factory=dict)
    """By role: when the service address was last moved because it did not answer."""
    address_trouble: Mapping[Role, float] = field(default_factory=dict)
    """By role: since when not exactly one replica holds the service address."""
    address_doubled: Mapping[Role, float] = field(default_factory=dict)
    """By role: since when more than one does."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be, in an operator's words."""

    about: str
    """What it is known by for as long as it lasts: it has nothing that changes meanwhile."""
    text: str
    """How it was seen last, a sentence."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What planning decides."""

    actions: tuple[Action, ...]
    memory: Memory
    problems: tuple[Problem, ...] = ()

    def watched_only(self, before: Memory) -> Plan:
        """The same for one that must not act: nothing is done, nor remembered as done after ``before``."""
        memory = replace(self.memory, flops=before.flops, address_moved=before.address_moved)
        return replace(self, actions=(), memory=memory)


class Condition(StrEnum):
    """What the scaler makes of a replica."""

    BOOTING = "booting"
    USABLE = "usable"
    LEAVING = "leaving"
    """Drained or draining, by whomever."""
    FAILED = "failed"
    """It answers, and says that it does not work, or never came up."""
    SILENT = "silent"
    DEAD = "dead"
    """The provider says that it does not run."""


def condition(
    replica: Replica, now: float, timing: Timing, leading_since: float | None = None
) -> tuple[Condition, str]:
    """What to make of ``replica`` at ``now``, and why; ``leading_since``: None is just now.

    Of one that never answered only a scaler that has led since before it was made knows that it has no calls:
    another one may have had an answer, and have told Kamailio of it.
    """
    probe, status = replica.probe, replica.status
    if replica.stopped_since is not None and now - replica.stopped_since >= timing.stopped:
        return Condition.DEAD, "the provider says that it does not run"
    silent = probe.silent_for(now)
    if probe.answered_at is None:
        if silent < timing.booting:
            return Condition.BOOTING, "starting"
        if probe.seen_new and leading_since is not None and leading_since <= probe.first_seen:
            return Condition.FAILED, f"did not come up within {timing.booting:.0f} s ({probe.error})"
        return Condition.SILENT, probe.silence
    if status is None or silent >= timing.silent:
        return Condition.SILENT, probe.silence
    return _said(replica, status, now, timing)


def _said(replica: Replica, status: Status, now: float, timing: Timing) -> tuple[Condition, str]:
    probe = replica.probe
    if status.retired or status.state in (State.DRAINING, State.DRAINED):
        return Condition.LEAVING, status.reason
    if probe.failed_since is not None and now - probe.failed_since >= timing.failed:
        return Condition.FAILED, f"says that it has failed: {status.reason}"
    if status.state is State.BOOTING:
        if probe.ready_at is None and now - probe.first_seen >= timing.booting:
            return Condition.FAILED, f"not ready within {timing.booting:.0f} s: {status.reason}"
        return Condition.BOOTING, status.reason
    return Condition.USABLE, status.reason


def is_running(record: ReplicaRecord) -> bool:
    """Whether the provider sees it running, or about to."""
    return record.life is not Life.STOPPED
