"""How long a service address does not answer when something breaks: real faults on a real stack.

    python -m benchmarks.failover [--faults kamailio-killed …] [--runs 3] [--json]

A caller asks the service address with OPTIONS every 50 ms from one port that does not change, and the longest
gap between two answers around the fault is taken; then the stack is waited for until it is whole again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.faults import FAULTS, gap_after
from tests.e2e.running import RunningStack

from benchmarks.running import ROOT

_STACK = """\
name: benchfail
domain: bench.example.org
pools:
  gateway: {min: 1, max: 1}
"""
_AFTER_S = 8.0
_WHOLE_S = 150.0


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault. Times in seconds."""

    fault: str
    runs: int
    p50_s: float
    p99_s: float
    max_s: float


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
            gaps = []
            for _ in range(args.runs):
                stack.wait_whole(_WHOLE_S)
                gaps.append(gap_after(stack, name, _AFTER_S))
            rows.append(row_of(name, gaps))
            print(f"{name}: {', '.join(f'{gap:.2f}' for gap in gaps)} s", file=sys.stderr, flush=True)
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
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
