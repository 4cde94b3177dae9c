"""A fault under load: how long nobody was answered, and what became of the calls.

Through the service address of Kamailio, each from one port: dialogs that stand when it happens and are
renewed (re-INVITE) and ended (BYE) afterwards, and calls that are placed all the time. When Kamailio or
Coturn is broken, two terminals talk to each other, too, with sound and picture.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.harness.calls import CallsLost, calls_through
from tests.harness.conversation import conversation
from tests.harness.faults import FAULTS, Fault, Replica
from tests.harness.probe import Probe, SipProbe, StunProbe
from tests.harness.running import RunningStack, eventually, run

WATCHED_S = 4.0
WHOLE_S = 150.0
LEADS_S = 20.0
"""So long another leader is waited for."""
PAUSED_S = 15.0
"""Twice as long as until another leader, which takes over meanwhile."""
REPLACED_S = 90.0
MOVED_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(CallsLost):
    """What a fault cost. Times in seconds."""

    fault: str
    replica: str
    """The name of the replica that was broken."""
    no_answer_s: float
    """The longest time in which a caller with one port, who asks every 50 ms, got no answer."""
    leads_s: float | None
    """Until another scaler led, as it wrote in its journal; None when no leader was broken."""
    media_s: float | None
    """The longest time for which an end of a call, relayed by Coturn, heard nothing of the other; None of the
    leader, and of Kamailio when Coturn's service was broken as well."""

    def line(self) -> str:
        """For people."""
        led = f", {self.leads_s:.1f} s until another leader" if self.leads_s is not None else ""
        heard = f", {self.media_s:.2f} s until media again" if self.media_s is not None else ""
        return f"{self.fault}: {self.no_answer_s:.2f} s without an answer{led}{heard}; {self.lost()}"


def measure(
    stack: RunningStack,
    names: Sequence[str],
    workdir: Path,
    watched_s: float = WATCHED_S,
    removes: bool = False,
) -> list[Measured]:
    """Wait for the stack to be whole, and break it; AssertionError when it did not answer again.

    Faults of several ``names`` happen at once, of one role each; what became of the calls is the same for
    all. It is watched for ``watched_s`` afterwards: a second gap would show, too. (A leader's fault longer.)
    With ``removes`` what was broken is then removed by hand: the scaler leaves a silent replica a minute.
    Its address is another replica's, calls with sound and picture have both, are renewed and ended in order,
    another scaler leads, and a leader that comes back begins nothing.
    """
    faults = {name: FAULTS[name] for name in names}
    roles = [fault.role for fault in faults.values()]
    assert len(set(roles)) == len(roles), f"two faults of one role: {', '.join(names)}"
    status = stack.wait_whole(WHOLE_S)
    active = {one["role"]: str(one["id"]) for one in status["replicas"] if one.get("active")}
    names_of = {str(one["id"]): str(one["name"]) for one in status["replicas"]}
    scalers = [str(one["id"]) for one in status["replicas"] if one["role"] == "scaler"]
    (leader,) = [one for one in status["replicas"] if one["role"] == "scaler" and one.get("active")]
    addresses = {role: str(one["address"]) for role, one in status["service_addresses"].items()}
    broken = {name: Replica(active[fault.role], fault.role, stack.network) for name, fault in faults.items()}
    if "scaler" in roles:
        watched_s = PAUSED_S if "leader-paused" in names else LEADS_S / 2
    leads_s = media_s = None
    relays = all(fault.spares_service for fault in faults.values() if fault.role == "coturn")
    scalers_dead = any(fault.scalers_dead for fault in faults.values())
    with (
        conversation(stack) if set(roles) != {"scaler"} else contextlib.nullcontext() as talk,
        _probes(roles, addresses) as probes,
        _dead(scalers if scalers_dead else []),
        calls_through(stack, addresses["kamailio"], workdir, watched_s) as calls,
    ):
        eventually(lambda: all(one.answered > 20 for one in probes), 45, "the service addresses answer")
        before, at = time.monotonic(), time.time()
        told = talk.told if talk else (0, 0)
        for name, fault in faults.items():
            fault.breaks(broken[name])
        if "scaler" in roles:
            leads_s = _another_leads(stack, leader, at) - at
        if talk:
            media_s = talk.silent_s(told, before, watched_s)
        time.sleep(max(0.0, before + watched_s - time.monotonic()))
        answered = [one.answered for one in probes]
        eventually(
            lambda: all(one.answered > count + 5 for one, count in zip(probes, answered, strict=True)),
            45,
            f"the service addresses answer after {', '.join(names)}",
        )
        gaps = [one.longest_gap_s() for one in probes]
        for name, fault in faults.items():
            if fault.moves:
                _moved(stack, broken[name])
        if talk:
            talk.wait_goes_on()
            talk.renew()
            talk.hang_up()
        lost = calls.finish()
    for name, fault in faults.items():
        _mend(stack, fault, broken[name], removes)
    return [
        Measured(
            fault=name,
            replica=names_of[broken[name].container],
            no_answer_s=gap,
            leads_s=leads_s if fault.role == "scaler" else None,
            media_s=media_s if fault.role == "coturn" or (fault.role == "kamailio" and relays) else None,
            **asdict(lost),
        )
        for (name, fault), gap in zip(faults.items(), gaps, strict=True)
    ]


def _mend(stack: RunningStack, fault: Fault, broken: Replica, removes: bool) -> None:
    """Put right, or remove, by hand what would stay broken, and wait for what takes its time."""
    if fault.mend:
        mended = time.time()
        fault.mend(broken)
        if fault.role == "scaler":
            _stands_by(stack, broken.container, mended)
    if removes:
        subprocess.run(["docker", "rm", "-f", broken.container], check=False, capture_output=True)
    if fault.is_replaced:
        eventually(
            lambda: broken.container not in {one["id"] for one in stack.status()["replicas"]},
            REPLACED_S,
            "the replica is replaced",
            every=1,
        )


@contextlib.contextmanager
def _probes(roles: Sequence[str], addresses: dict[str, str]) -> Iterator[list[Probe]]:
    """A caller for each role: of its own service address, or of Kamailio's."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                StunProbe(addresses["coturn"]) if role == "coturn" else SipProbe(addresses["kamailio"])
            )
            for role in roles
        ]


@contextlib.contextmanager
def _dead(scalers: Sequence[str]) -> Iterator[None]:
    """So long they are dead; then one is started, which mends the rest."""
    for scaler in scalers:
        run("docker", "kill", scaler)
    try:
        yield
    finally:
        for scaler in scalers[:1]:
            run("docker", "start", scaler)


def _moved(stack: RunningStack, broken: Replica) -> None:
    """The service address is another replica's."""

    def another() -> bool:
        return any(one.get("active") and one["id"] != broken.container for one in stack.replicas(broken.role))

    eventually(another, MOVED_S, f"another {broken.role} has the service address")


def _another_leads(stack: RunningStack, old: dict[str, Any], since: float) -> float:
    """When (Unix time) another scaler led, after ``since``."""

    def another() -> dict[str, Any] | None:
        return next((s for s in stack.replicas("scaler") if s.get("active") and s["id"] != old["id"]), None)

    new = eventually(another, LEADS_S, "another scaler leads")
    assert new["term"] >= old["term"], f"{new} leads by an older lease than {old} did"

    def told() -> list[float]:
        leads = [e for e in stack.events() if e["event"] == "leads" and e["who"] == new["name"]]
        return [float(e["at"]) for e in leads if e["at"] >= since]

    # A scaler that has just been made, and is asked, has a copy of the trail two seconds later.
    return max(eventually(told, 45, "the audit trail tells when it led"))


def _stands_by(stack: RunningStack, old: str, since: float) -> None:
    """A leader that goes on after a pause stands by, and begins nothing. ``since``: Unix time."""

    def stood_down() -> bool:
        mine = [one for one in stack.replicas("scaler") if one["id"] == old]
        return not mine or mine[0].get("active") is False

    name = next((one["name"] for one in stack.replicas("scaler") if one["id"] == old), "")
    eventually(stood_down, 45, "the old leader stands by, or was replaced meanwhile")
    trail = stack.events()
    acted = [e for e in trail if e["at"] >= since and e["who"] == name and e["event"].endswith("started")]
    assert not acted, f"the old leader acted after its pause: {acted}"

    def one_leads() -> bool:
        return len([one for one in stack.replicas("scaler") if one.get("active")]) == 1

    eventually(one_leads, 45, "one scaler leads, as all agents see it")
