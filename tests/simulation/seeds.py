"""Which histories run: some that follow from the commit, and those that ever found something."""

from __future__ import annotations

import os

COUNT = int(os.environ.get("SMD_SIMULATION_SEEDS", "30"))
"""So many seeds one after the other; ``make test`` has 100, ``make test-long`` 5,000."""

FIRST = int(os.environ.get("SMD_SIMULATION_START", "0"))
"""The first of them. ``tests/run`` makes it from the commit: each has others, which can be repeated."""

FAILED_ONCE = (2054, 137043999)
"""Seeds whose history has broken a promise, with the product as it was then; they always run.

Whoever mends what a seed has found adds it here.
2054: a gateway was taken back that may have been retired meanwhile.
137043999: a leader that was cut off from a new gateway alone gave it up (the check was wrong).
"""

BATCH = 10
"""So many histories are one test."""


def batches() -> list[tuple[int, ...]]:
    """The seeds of all tests."""
    fresh = range(FIRST, FIRST + COUNT)
    return [FAILED_ONCE, *(tuple(fresh[at : at + BATCH]) for at in range(0, COUNT, BATCH))]
