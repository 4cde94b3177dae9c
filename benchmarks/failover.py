"""How long a service address does not answer when something breaks: real faults on a real stack.

    python -m benchmarks.failover [--faults kamailio-killed …] [--runs 3] [--json]

A caller asks the service address with OPTIONS every 50 ms from one port that does not change, and the longest
gap between two answers around the fault is taken; then the stack is waited for until it is whole again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.running import RunningStack, eventually
from tests.e2e.sip_probe import SipProbe

from benchmarks.running import ROOT, NoStack

_STACK = """\
name: benchfail
domain: bench.example.org
pools:
  gateway: {min: 1, max: 1}
"""
_BEFORE_S, _AFTER_S = 1.0, 8.0
_WHOLE_S = 150.0


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault. Times in seconds."""

    fault: str
    runs: int
    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Replica:
    """The container that is to be broken."""

    container: str

    def processes(self, name: str) -> list[int]:
        """Process ids, on this host, of the processes of that name in it."""
        listed = _docker("top", self.container, "-eo", "pid,comm").splitlines()[1:]
        return [int(pid) for pid, command in (line.split(None, 1) for line in listed) if command == name]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of that name."""
        found = self.processes(name)
        if not found:
            raise NoStack(f"no process {name} runs in {self.container}")
        for pid in found:
            os.kill(pid, number)


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise NoStack(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _agent(replica: Replica, number: signal.Signals) -> None:
    """The agent is the one Python process with the command line of ``smd node``."""
    listed = _docker("top", replica.container, "-eo", "pid,args").splitlines()[1:]
    found = [int(line.split(None, 1)[0]) for line in listed if "sipmediadeploy" in line and "node" in line]
    if not found:
        raise NoStack(f"no agent runs in {replica.container}")
    for pid in found:
        os.kill(pid, number)


def _cut(replica: Replica, chain: str) -> None:
    """Drop all that comes in, or goes out, in the container's own network namespace."""
    pid = _docker("inspect", "--format", "{{.State.Pid}}", replica.container).strip()
    way = "iifname" if chain == "input" else "oifname"
    hook = f"type filter hook {chain} priority -300;\n"
    rules = f'table ip smd_cut {{\nchain cut {{\n{hook}{way} "eth0" drop\n}}\n}}\n'
    words = ["nsenter", "-t", pid, "-n", "nft", "-f", "-"]
    done = subprocess.run(words, input=rules, text=True, check=False, capture_output=True)
    if done.returncode:
        raise NoStack(f"nft in {replica.container}: {done.stderr.strip()}")


FAULTS: dict[str, Callable[[Replica], object]] = {
    "kamailio-killed": lambda r: r.signal("kamailio", signal.SIGKILL),
    "kamailio-stopped": lambda r: r.signal("kamailio", signal.SIGSTOP),
    "container-killed": lambda r: _docker("kill", r.container),
    "container-paused": lambda r: _docker("pause", r.container),
    "container-removed": lambda r: _docker("rm", "-f", r.container),
    "network-cut": lambda r: _docker("network", "disconnect", "-f", "smd-benchfail", r.container),
    "network-cut-in": lambda r: _cut(r, "input"),
    "network-cut-out": lambda r: _cut(r, "output"),
    "agent-killed": lambda r: _agent(r, signal.SIGKILL),
    "agent-stopped": lambda r: _agent(r, signal.SIGSTOP),
    "keepalived-killed": lambda r: r.signal("keepalived", signal.SIGKILL),
    "keepalived-stopped": lambda r: r.signal("keepalived", signal.SIGSTOP),
}
"""On the active Kamailio's replica."""
_STAYS = ("container-paused",)
"""What is broken so is there afterwards, and is put right by hand, as an operator would."""


def measure(stack: RunningStack, name: str) -> float:
    """Break the active Kamailio's replica; the longest gap between two answers, in seconds."""
    stack.wait_whole(_WHOLE_S)
    broken = Replica(str(stack.active("kamailio")["id"]))
    with SipProbe(stack.service_address("kamailio")) as probe:
        eventually(lambda: probe.answered > _BEFORE_S / 0.05 / 2, 20, "the service address answers")
        FAULTS[name](broken)
        time.sleep(_AFTER_S)  # what is measured: it would show a second gap, too
        answered = probe.answered
        eventually(lambda: probe.answered > answered, 30, f"the service address answers after {name}")
        gap = probe.longest_gap_s()
    if name in _STAYS:
        subprocess.run(["docker", "unpause", broken.container], check=False, capture_output=True)
    return gap


def row_of(name: str, gaps: Sequence[float]) -> FaultRow:
    """The row of one fault."""
    ordered = sorted(gaps)
    p99 = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)]
    return FaultRow(name, len(gaps), round(statistics.median(gaps), 2), round(p99, 2), round(max(gaps), 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 2: it can't be measured here."""
    parser = argparse.ArgumentParser(prog="failover", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    directory = ROOT / "artifacts" / "bench" / "failover"
    directory.mkdir(parents=True, exist_ok=True)
    file = Path(directory / "stack.yaml")
    file.write_text(_STACK)
    stack = RunningStack("benchfail", file, "")
    rows = []
    try:
        print(stack.smd("up", timeout=1200), file=sys.stderr)
        for name in args.faults:
            gaps = [measure(stack, name) for _ in range(args.runs)]
            rows.append(row_of(name, gaps))
            print(f"{name}: {', '.join(f'{gap:.2f}' for gap in gaps)} s", file=sys.stderr, flush=True)
    except (NoStack, AssertionError, OSError, subprocess.SubprocessError) as e:
        print(f"failover: {e}", file=sys.stderr)
        return 2
    finally:
        stack.smd("down")
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    print(f"{'fault':20} runs   p50     p99     max")
    for row in rows:
        print(f"{row.fault:20} {row.runs:4}  {row.p50_s:5.2f}   {row.p99_s:5.2f}   {row.max_s:5.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
