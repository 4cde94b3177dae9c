"""What it costs when something breaks in a cloud: real faults on a stack on the lab, callers outside of it.

    python -m benchmarks.openstack_failover [--ways vrrp reassociate] [--faults kamailio-server-killed …]
                                            [--runs 3] [--keep FILE] [--at-once] [--removes] [--json]

Two callers ask the pool's floating IP every 50 ms: one from one port that does not change, as terminals
and gateways do, and one from a fresh port each time. The longest time without an answer is taken. Each
way to move a service address has a stack of its own, one after the other: ``vrrp`` (the floating IP
stays on the service address, which moves between the replicas) and ``reassociate`` (the floating IP is
mapped anew by one request, as reference systems do). ``--keep`` adds each run to a file of JSON lines,
and makes the rows of all that are in it. ``--at-once`` breaks Kamailio's and Coturn's server in the
same way together, and ``--removes`` deletes a server that was broken, once callers are answered again,
so that the next one need not wait until it is given up: both for many runs in the same time. It needs
the lab: make openstack-lab.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.harness.faults import at_once
from tests.harness.openstack.fault_run import FAULTS, Measured, measure
from tests.harness.openstack.making import make_stack, reach
from tests.harness.openstack.settings import LabError, read_settings
from tests.harness.running import ROOT

from benchmarks.running import p99, tell

Way = Literal["vrrp", "reassociate"]
WAYS: tuple[Way, ...] = ("vrrp", "reassociate")


@dataclass(frozen=True, slots=True)
class Run:
    """One run, and how the service address was moved in it."""

    way: str
    measured: Measured


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one fault with one way. Times in seconds."""

    way: str
    fault: str
    runs: int
    one_port_p50_s: float
    one_port_p99_s: float
    one_port_max_s: float
    one_port_never: int
    """In so many runs the caller with one port had no answer until the end of the watch."""
    fresh_p50_s: float
    fresh_max_s: float
    established: int
    established_lost: int
    calls: int
    calls_lost: int


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """A row for each way and fault, in the order in which they come."""
    return [
        _row([run.measured for run in runs if (run.way, run.measured.fault) == (way, fault)], way)
        for way, fault in dict.fromkeys((run.way, run.measured.fault) for run in runs)
    ]


def _row(runs: Sequence[Measured], way: str) -> Row:
    kept, fresh = [run.no_answer_s for run in runs], [run.fresh_s for run in runs]
    return Row(
        way,
        runs[0].fault,
        len(runs),
        round(statistics.median(kept), 2),
        round(p99(kept), 2),
        round(max(kept), 2),
        sum(not run.one_port_again for run in runs),
        round(statistics.median(fresh), 2),
        round(max(fresh), 2),
        sum(run.established for run in runs),
        sum(run.established_lost for run in runs),
        sum(run.setup for run in runs),
        sum(run.setup_lost for run in runs),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    one_port, fresh = "one port: p50    p99    max  never", "fresh: p50    max"
    lines = [f"{'way':12} {'fault':24} runs  {one_port}   {fresh}   dialogs lost   calls lost"]
    for row in rows:
        times = f"{row.one_port_p50_s:13.2f} {row.one_port_p99_s:6.2f} {row.one_port_max_s:6.2f}"
        others = f"{row.one_port_never:5}   {row.fresh_p50_s:10.2f} {row.fresh_max_s:6.2f}"
        lost = f"{row.established_lost} of {row.established:<7}   {row.calls_lost} of {row.calls}"
        lines.append(f"{row.way:12} {row.fault:24} {row.runs:4}  {times}  {others}   {lost}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 2: it can't be measured here."""
    parser = argparse.ArgumentParser(prog="openstack_failover", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--removes", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    directory = ROOT / "artifacts" / "bench" / "openstack_failover"
    directory.mkdir(parents=True, exist_ok=True)
    keep: Path = args.keep or directory / "runs.jsonl"
    if args.keep is None:
        keep.unlink(missing_ok=True)
    try:
        lab = read_settings(os.environ)
        reach(lab, tell)
        for way in args.ways:
            with make_stack(lab, f"bench{way[:4]}", tell, service_addresses=way) as stack:
                tell(stack.smd("bootstrap", "--foundation"))
                for number in range(args.runs):
                    for names in at_once(args.faults) if args.at_once else [[name] for name in args.faults]:
                        stays = way == "vrrp"
                        for one in measure(stack, names, directory, calls_stay=stays, removes=args.removes):
                            with keep.open("a", encoding="utf-8") as out:
                                out.write(json.dumps(asdict(Run(way, one))) + "\n")
                            tell(f"{way}, {number + 1} of {args.runs}: {one.line()}")
    except (LabError, AssertionError, OSError, subprocess.SubprocessError) as e:
        tell(f"openstack_failover: {e}")
        return 2
    rows = rows_of([_read(line) for line in keep.read_text(encoding="utf-8").splitlines()])
    print(json.dumps([asdict(row) for row in rows], indent=2) if args.json else table(rows))
    return 0


def _read(line: str) -> Run:
    found = json.loads(line)
    return Run(found["way"], Measured(**found["measured"]))


if __name__ == "__main__":
    sys.exit(main())
