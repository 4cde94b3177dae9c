"""What it costs when something breaks: real faults on a real stack with calls.

    python -m benchmarks.failover [--faults kamailio-killed …] [--runs 3] [--keep FILE] [--stack NAME]
                                   [--at-once] [--removes] [--json]

A caller asks the service address every 50 ms from one port that does not change, and the longest time
without an answer is taken (for a leader's faults also the time until another scaler leads, for others
until both ends of a relayed call hear each other again). SIPp keeps dialogs and places calls meanwhile.
Then the stack is waited for until it is whole again. ``--keep`` adds each run to a file of JSON lines,
and makes the rows of all that is in it: a long series can be made in parts, and with ``--stack`` side by
side.
``--at-once`` breaks Kamailio's and Coturn's replica in the same way together, which takes half the time;
``--removes`` removes what was broken after each run, where the scaler would leave it a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.harness.fault_run import Measured, measure
from tests.harness.faults import FAULTS, at_once
from tests.harness.running import RunningStack

from benchmarks.running import ROOT, p99, tell
from sipmediadeploy.images.build import ensure_test_image
from sipmediadeploy.providers.docker.engine import ensure_engine

_STACK = """\
name: {name}
domain: bench.example.org
turn: always
media: {{rtp_timeout_s: 300}}
pools:
  gateway: {{min: 2, max: 2, calls: 8}}
"""
_WITHOUT_ANSWER = "an answer"
_ANOTHER_LEADER = "another leader"
_MEDIA = "media again"


@dataclass(frozen=True, slots=True)
class FaultRow:
    """All runs of one fault. Times in seconds, until there was what ``until`` says."""

    fault: str
    until: str
    runs: int
    p50_s: float
    p99_s: float
    max_s: float
    established: int
    established_lost: int
    setup: int
    setup_lost: int


def rows_of(runs: Sequence[Measured]) -> list[FaultRow]:
    """Rows for each fault: until there was an answer, media in a relayed call again, another leader."""
    rows = []
    for name in FAULTS:
        mine = [run for run in runs if run.fault == name]
        led = [run.leads_s for run in mine if run.leads_s is not None]
        heard = [run.media_s for run in mine if run.media_s is not None]
        if mine:
            rows.append(_row(name, _WITHOUT_ANSWER, [run.no_answer_s for run in mine], mine))
        if led:
            rows.append(_row(name, _ANOTHER_LEADER, led, mine))
        if heard:
            rows.append(_row(name, _MEDIA, heard, mine))
    return rows


def _row(name: str, until: str, seconds: Sequence[float], runs: Sequence[Measured]) -> FaultRow:
    ordered = sorted(seconds)
    return FaultRow(
        name,
        until,
        len(ordered),
        round(statistics.median(ordered), 2),
        round(p99(ordered), 2),
        round(ordered[-1], 2),
        sum(run.established for run in runs),
        sum(run.established_lost for run in runs),
        sum(run.setup for run in runs),
        sum(run.setup_lost for run in runs),
    )


_REFERENCE = """\
For comparison, the upstream scaler on OpenStack (floating IP moved by an API call): machine killed 61 s, the
service says that it is ill 6 to 66 s, silent: never; callers that keep their port: never (130 s watched)."""


def table(rows: Sequence[FaultRow]) -> str:
    """The rows for people."""
    lines = [f"{'fault':43} {'until':15} runs    p50    p99    max   dialogs lost  calls lost"]
    for row in rows:
        lines.append(
            f"{row.fault:43} {row.until:15} {row.runs:4} {row.p50_s:6.2f} {row.p99_s:6.2f} {row.max_s:6.2f} s"
            f"   {row.established_lost} of {row.established:<5}   {row.setup_lost} of {row.setup}"
        )
    return "\n".join([*lines, "", _REFERENCE])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 2: it can't be measured here."""
    parser = argparse.ArgumentParser(prog="failover", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--stack", default="benchfail", help="its name; each has files of its own")
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--removes", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    directory = ROOT / "artifacts" / "bench" / "failover" / args.stack
    directory.mkdir(parents=True, exist_ok=True)
    file = Path(directory / "stack.yaml")
    file.write_text(_STACK.format(name=args.stack))
    keep: Path = args.keep or directory / "runs.jsonl"
    if args.keep is None:
        keep.unlink(missing_ok=True)
    stack = RunningStack(args.stack, file, ensure_test_image(ensure_engine(tell), tell))
    try:
        tell(stack.smd("up", timeout=1200))
        for number in range(args.runs):
            for names in at_once(args.faults) if args.at_once else [[name] for name in args.faults]:
                for run in measure(stack, names, directory, removes=args.removes):
                    with keep.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(asdict(run)) + "\n")
                    tell(f"{number + 1} of {args.runs}: {run.line()}")
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
        tell(f"failover: {e}")
        return 2
    finally:
        stack.smd("down")
    rows = rows_of([Measured(**json.loads(line)) for line in keep.read_text(encoding="utf-8").splitlines()])
    print(json.dumps([asdict(row) for row in rows], indent=2) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
