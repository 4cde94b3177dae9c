"""What a replica says of itself, decided from what its agent has seen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sipmediadeploy.node.roles.base import Health
from sipmediadeploy.node.state import AgentState
from sipmediadeploy.protocol.agent import State

BOOT_LIMIT_S = 60.0
"""A replica that was never healthy for so long has failed."""
THAW_GAP_S = 1.5
"""An agent that was not run for so long was frozen: another replica holds the address by now."""
THAW_S = 1.0
MISSES = 2
"""So many checks in a row must fail: one lost datagram is no fault."""


OFTEN, OFTEN_S = 5, 60.0
"""A service address that comes to a replica so often in so many seconds does not move for a reason."""
RUN_FREE = 0.05
"""Less than this share of /run free: configuration and logs soon can't be written."""


def warnings(taken_at: Sequence[float], run_free: float, now: float) -> tuple[str, ...]:
    """What an operator should know although the replica works, as "WHAT: HOW IT IS NOW". Pure.

    ``taken_at``: when the service address came to this replica; ``run_free``: share of /run that is free.
    """
    lately = sum(now - at < OFTEN_S for at in taken_at)
    often = (
        f"it came to this replica {lately} times in the last {OFTEN_S:.0f} s: adverts do not arrive in time"
    )
    full = f"{run_free:.0%} of it are free; look for what fills it, or replace this replica"
    found = {
        "the service address comes and goes": often if lately >= OFTEN else "",
        "/run is full": full if run_free < RUN_FREE else "",
    }
    return tuple(f"{what}: {how}" for what, how in found.items() if how)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the health checks have shown up to now. Times are seconds of one monotonic clock."""

    started_at: float
    last: Health
    healthy: bool = False
    ever_healthy: bool = False
    misses: int = 0
    first_miss_at: float = 0.0
    sick_since: float = 0.0
    """When it turned sick, or was started."""

    @property
    def known(self) -> bool:
        """Whether the checks have shown anything yet; one miss shows nothing."""
        return self.ever_healthy or self.misses >= MISSES


def start(now: float) -> Seen:
    """What is known before the first check."""
    return Seen(now, Health(False, "not checked yet"), sick_since=now)


def after_check(seen: Seen, health: Health, patience_s: float, now: float) -> Seen:
    """What is known after one more check; misses that last less than ``patience_s`` are forgiven."""
    if health.ok:
        return replace(seen, last=health, healthy=True, ever_healthy=True, misses=0)
    first = now if seen.misses == 0 else seen.first_miss_at
    misses = seen.misses + 1
    sick = misses >= MISSES and now - first >= patience_s
    return replace(
        seen,
        # A forgiven miss may have seen nothing of the calls.
        last=health if sick or not seen.healthy else replace(seen.last, reason=health.reason),
        healthy=seen.healthy and not sick,
        misses=misses,
        first_miss_at=first,
        sick_since=now if seen.healthy and sick else seen.sick_since,
    )


def decide(seen: Seen, state: AgentState, active: bool | None, now: float) -> tuple[State, str]:
    """The replica's state, and why, for an operator."""
    health = seen.last
    if not seen.healthy:
        if not seen.ever_healthy:
            if now - seen.started_at < BOOT_LIMIT_S:
                return State.BOOTING, health.reason
            return State.FAILED, f"not healthy {BOOT_LIMIT_S:.0f} s after its start: {health.reason}"
        return State.FAILED, health.reason
    if state.retired or state.drained_by is not None:
        why = "retired" if state.retired else f"drained by the {state.drained_by}"
        if health.calls > 0:
            return State.DRAINING, f"{why}; {health.calls} calls go on"
        if active:
            return State.DRAINING, f"{why}; it still holds the service address"
        return State.DRAINED, why
    if health.capacity > 0 and health.calls >= health.capacity:
        return State.BUSY, f"all {health.capacity} places are taken"
    return State.READY, health.reason
