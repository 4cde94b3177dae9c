"""Histories of many seeds, side by side: ``python -m tests.simulation.soak [--seeds 500] [--start N]``.

A seed whose history breaks a promise is printed with what happened before, and replays exactly.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation import seeds
from tests.simulation.clock import run
from tests.simulation.history import history

_SHOWN_LINES = 60


def outcome(seed: int) -> tuple[int, str]:
    """The seed, and how its history failed; nothing when it did not."""
    try:
        run(history(seed))
    except BaseException as e:
        where = traceback.format_tb(e.__traceback__)[-1].splitlines()
        what = "".join(traceback.format_exception_only(e)).splitlines()
        return seed, "\n".join([*where, *what[:2], *what[2:][-_SHOWN_LINES:]])
    return seed, ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run them. Exit code 1: a promise was broken."""
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--start", type=int, default=seeds.FIRST, help="as the commit says, if not given")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args(argv)
    began, failed = time.monotonic(), []
    with ProcessPoolExecutor(args.jobs) as pool:
        for seed, how in pool.map(outcome, range(args.start, args.start + args.seeds), chunksize=1):
            if how:
                failed.append(seed)
                print(f"seed {seed}:\n{how}\n", flush=True)
    seconds = time.monotonic() - began
    which = f": {failed}" if failed else ""
    print(f"{args.seeds} histories from seed {args.start} on in {seconds:.0f} s, {len(failed)} failed{which}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
