"""Jobs run side by side, and an error stops what has not begun."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from sipmediadeploy.images.parallel import run_side_by_side


def test_all_jobs_run_and_two_of_them_together() -> None:
    together = threading.Barrier(2, timeout=10)
    done: list[int] = []

    def job(number: int) -> None:
        together.wait()
        done.append(number)

    run_side_by_side([partial(job, number) for number in range(4)], 2)
    assert sorted(done) == [0, 1, 2, 3]


def test_the_first_error_is_raised_and_no_other_job_is_begun() -> None:
    begun: list[int] = []

    def job(number: int) -> None:
        begun.append(number)
        raise ValueError(f"job {number}")

    with pytest.raises(ValueError, match="job 0"):
        run_side_by_side([partial(job, 0)], 1)
    assert begun == [0]

    release = threading.Event()

    def wait() -> None:
        release.wait(10)

    try:
        with pytest.raises(ValueError, match="job 1"):
            run_side_by_side([partial(job, 1), wait, wait, partial(job, 2)], 2)
    finally:
        release.set()
    assert begun == [0, 1]
