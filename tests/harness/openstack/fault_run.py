"""A fault in the cloud under load: how long callers outside got no answer, and what became of their calls."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sipmediadeploy.providers.openstack.errors import Missing
from tests.harness.calls import CallsLost, calls_through
from tests.harness.openstack.cloud_stack import CloudStack
from tests.harness.probe import Probe, SipProbe, StunProbe
from tests.harness.running import eventually

WATCHED_S = 4.0
REPLACED_S = 180.0
"""A silent replica is left a minute, and another server takes its time."""
_NOBODY_CALLED = CallsLost(established=0, established_lost=0, setup=0, setup_lost=0, messages="")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, of the replica that is active in its pool, or leads."""

    role: str
    breaks: Callable[[CloudStack, dict[str, Any]], None]


_OF_A_SERVER: dict[str, Callable[[CloudStack, dict[str, Any]], None]] = {
    "server-killed": CloudStack.kill,
    "server-hung": CloudStack.hang,
    "server-deleted": CloudStack.delete,
}
FAULTS: dict[str, Fault] = {
    f"{role}-{name}": Fault(role, breaks)
    for role in ("kamailio", "coturn")
    for name, breaks in _OF_A_SERVER.items()
} | {"leader-killed": Fault("scaler", CloudStack.kill)}


_TOGETHER = (
    ("kamailio-server-killed", "coturn-server-hung"),
    ("kamailio-server-hung", "coturn-server-deleted"),
    ("kamailio-server-deleted", "coturn-server-killed"),
)
"""Each fault of a server once; any two of these runs have all three kinds."""


def turn_of(commit: str) -> list[list[str]]:
    """The runs with the faults of servers, the one first whose turn it is with this commit (hex)."""
    first = int(commit, 16) % len(_TOGETHER)
    return [list(names) for names in (*_TOGETHER[first:], *_TOGETHER[:first])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(CallsLost):
    """What a fault cost. Times in seconds."""

    fault: str
    no_answer_s: float
    """The longest time in which a caller with one port, who asks every 50 ms, got no answer."""
    one_port_again: bool
    """Whether that caller was answered again."""
    fresh_s: float
    """The same for somebody who asks from a new port each time."""
    whole_s: float
    """Until the stack was whole again."""

    def line(self) -> str:
        """For people."""
        until = "" if self.one_port_again else " (to the end)"
        kept = f"{self.no_answer_s:.2f} s without an answer from one port{until}"
        gaps = f"{kept}, {self.fresh_s:.2f} s from fresh ones"
        return f"{self.fault}: {gaps}; whole after {self.whole_s:.0f} s; {self.lost()}"


def measure(
    stack: CloudStack,
    names: Sequence[str],
    workdir: Path,
    watched_s: float = WATCHED_S,
    *,
    calls_stay: bool = True,
    removes: bool = False,
) -> list[Measured]:
    """Wait for the stack to be whole, break it, and wait until it is whole again.

    Faults of several ``names`` happen at once, of one role each; what became of the calls is the same for
    all. Without ``calls_stay`` nobody calls, and only fresh callers must be answered again. With ``removes``
    what was broken is then deleted by hand: the scaler leaves a silent replica a minute.

    Raises:
        AssertionError: callers are not answered again, or it is not whole in time.
    """
    faults = {name: FAULTS[name] for name in names}
    assert len({fault.role for fault in faults.values()}) == len(faults), f"two of one role: {faults}"
    status = stack.wait_whole(REPLACED_S)
    addresses = {role: str(address) for role, address in status["floating_ips"].items()}
    active = {
        name: _active(stack, fault.role, status["replicas"], addresses) for name, fault in faults.items()
    }
    placed = calls_through(stack, addresses["kamailio"], workdir, watched_s) if calls_stay else None
    with contextlib.ExitStack() as exits:
        noticing = {_noticed_by(fault.role) for fault in faults.values()}
        pairs = {pool: _probes(exits, pool, addresses) for pool in sorted(noticing)}
        probes = [probe for pair in pairs.values() for probe in pair]
        calls = exits.enter_context(placed) if placed else None
        eventually(lambda: all(one.answered > 20 for one in probes), 20, "the floating IPs answer")
        before = time.monotonic()
        for name, fault in faults.items():
            fault.breaks(stack, active[name])
        time.sleep(max(0.0, before + watched_s - time.monotonic()))
        again = probes if calls_stay else [fresh for _, fresh in pairs.values()]
        answered = [one.answered for one in again]
        eventually(
            lambda: all(one.answered > count + 5 for one, count in zip(again, answered, strict=True)),
            60,
            f"the floating IPs answer after {', '.join(names)}",
        )
        lost = calls.finish() if calls else _NOBODY_CALLED
        for broken in active.values() if removes else ():
            with contextlib.suppress(Missing):
                stack.delete(broken)
        for broken in active.values():
            stack.wait_gone(broken, REPLACED_S)
        stack.wait_whole(REPLACED_S)
        whole = time.monotonic() - before
        measured = []
        for name, fault in faults.items():
            kept, fresh = pairs[_noticed_by(fault.role)]
            measured.append(
                Measured(
                    fault=name,
                    no_answer_s=max(kept.longest_gap_s(), kept.silent_s()),
                    one_port_again=kept.silent_s() < watched_s,
                    fresh_s=fresh.longest_gap_s(),
                    whole_s=whole,
                    **asdict(lost),
                )
            )
        return measured


def _noticed_by(role: str) -> str:
    """The pool whose callers would notice a fault in the pool ``role``."""
    return "coturn" if role == "coturn" else "kamailio"


def _active(
    stack: CloudStack, role: str, replicas: list[dict[str, Any]], addresses: dict[str, str]
) -> dict[str, Any]:
    """Who holds the service address, or leads; or to whom the floating IP is mapped."""
    mapped = stack.mapped_to(addresses[role]) if role in addresses else ""
    return next(one for one in replicas if one["role"] == role and (one.get("active") or one["id"] == mapped))


def _probes(exits: contextlib.ExitStack, pool: str, addresses: dict[str, str]) -> tuple[Probe, Probe]:
    """Somebody who keeps his port, and somebody who does not, until ``exits`` ends."""
    kind = StunProbe if pool == "coturn" else SipProbe
    return exits.enter_context(kind(addresses[pool])), exits.enter_context(kind(addresses[pool], fresh=True))
