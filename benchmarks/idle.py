"""What an idle stack costs, a row for each role: CPU, memory, wake-ups and child processes.

Brings a default stack up, waits until it is whole and measures it for a while. Then the scalers are paused
and the agents stopped, and the same is measured again: that is the floor, what the services cost by
themselves. The rows of the engine are what its daemons take meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import cgroup_of, usages
from benchmarks.running import NoStack, first_pid, idle_stack, smd_json, tell

SETTLE_S = 20.0
"""After the stack is whole: caches fill, the lease is taken, the first allocations are made."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one container, or the engine, has counted up to now."""

    cpu_s: float
    memory: int
    """Bytes: the working set."""
    switches: int
    """Voluntary context switches of all of its threads: how often one woke up."""
    last_pid: int
    """The last process id that was given out in its PID namespace."""


@dataclass(frozen=True, slots=True)
class Row:
    """One role: the mean of its replicas."""

    role: str
    replicas: int
    cpu_percent: float
    """Of one core."""
    memory_mib: float
    wakeups: float
    """A second."""
    children: float
    """Processes and threads that were started, a minute."""


def main(argv: list[str] | None = None) -> int:
    """Print the table, or JSON. 1: the stack did not come up."""
    parser = argparse.ArgumentParser(prog="tests/run bench idle", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each of both is measured")
    parser.add_argument(
        "--stack", type=Path, help="a stack file of a running stack to measure; its agents go on"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        if options.stack is not None:
            tables = {"with agents": _measured(_replicas(options.stack), options.seconds)}
        else:
            with idle_stack(Path("artifacts/bench/idle")) as file:
                tables = _both(file, options.seconds)
    except NoStack as e:
        print(f"idle: {e}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({name: [asdict(row) for row in rows] for name, rows in tables.items()}, indent=2))
    else:
        for name, rows in tables.items():
            print(f"{name}:\n{table(rows)}")
    return 0


def _both(file: Path, seconds: float) -> dict[str, list[Row]]:
    tell(f"settling for {SETTLE_S:.0f} s")
    time.sleep(SETTLE_S)
    replicas = _replicas(file)
    tell(f"measuring for {seconds:.0f} s")
    with_agents = _measured(replicas, seconds)
    smd_json(file, "pause", parse=False)
    agents = [container for containers in replicas.values() for container in containers]
    for container in agents:
        _agent(container, "-d")
    time.sleep(SETTLE_S / 2)
    tell(f"measuring without agents for {seconds:.0f} s")
    return {"with agents": with_agents, "without agents": _measured(replicas, seconds)}


def _agent(container: str, order: str) -> None:
    words = ["docker", "exec", container, "s6-svc", order, "/run/service/agent"]
    subprocess.run(words, check=False, capture_output=True)


def _replicas(file: Path) -> dict[str, list[str]]:
    """By role: the ids of its containers."""
    status: dict[str, Any] = smd_json(file, "status", "--json")
    found: dict[str, list[str]] = {}
    for one in status["replicas"]:
        found.setdefault(one["role"], []).append(str(one["id"]))
    return found


def _measured(replicas: dict[str, list[str]], seconds: float) -> list[Row]:
    pids = {container: first_pid(container) for group in replicas.values() for container in group}
    engines = {"dockerd": _named("dockerd"), "containerd": _named("containerd")}

    def look() -> dict[str, Counted]:
        seen = {container: _container(pid) for container, pid in pids.items()}
        return seen | {name: _processes(found) for name, found in engines.items()}

    began, before = time.monotonic(), look()
    time.sleep(seconds)
    after, took = look(), time.monotonic() - began
    groups = replicas | {name: [name] for name, found in engines.items() if found}
    return [_row(role, [(before[one], after[one]) for one in group], took) for role, group in groups.items()]


def _row(role: str, counted: list[tuple[Counted, Counted]], seconds: float) -> Row:
    def mean(of: Callable[[Counted, Counted], float]) -> float:
        return statistics.mean(of(before, after) for before, after in counted)

    return Row(
        role,
        len(counted),
        mean(lambda before, after: (after.cpu_s - before.cpu_s) / seconds * 100),
        mean(lambda _, after: after.memory / 2**20),
        mean(lambda before, after: (after.switches - before.switches) / seconds),
        # Less the one that looks.
        mean(lambda before, after: max(0, after.last_pid - before.last_pid - 1) / seconds * 60),
    )


def _container(pid: int) -> Counted:
    group = cgroup_of(pid)
    words = ["nsenter", "--target", str(pid), "--pid", "cat", "/proc/loadavg"]
    last = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]
    return Counted(group.cpu_seconds(), group.working_set(), _switches(group.pids()), int(last))


def _processes(pids: list[int]) -> Counted:
    found = usages(pids)
    return Counted(sum(u.cpu_seconds for u in found), sum(u.pss for u in found), _switches(pids), 0)


def _switches(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                lines = status.read_text().splitlines()
            except OSError:  # it has ended just now
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
    return total


def _named(name: str) -> list[int]:
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == name:
                found.append(int(comm.parent.name))
        except OSError:  # it has ended just now
            continue
    return found


def table(rows: list[Row]) -> str:
    """For people."""
    head = f"{'role':<16}{'replicas':>9}{'CPU %':>8}{'MiB':>8}{'wake-ups/s':>12}{'children/min':>14}"
    lines = [
        f"{row.role:<16}{row.replicas:>9}{row.cpu_percent:>8.2f}{row.memory_mib:>8.1f}{row.wakeups:>12.1f}"
        f"{row.children:>14.1f}"
        for row in rows
    ]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    sys.exit(main())
