"""Runs a few jobs at a time, in a way that Ctrl-C ends at once."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence


def run_side_by_side(jobs: Sequence[Callable[[], None]], at_a_time: int) -> None:
    """Run ``jobs``, ``at_a_time`` of them together; the first error is raised at once, and nothing new begun.

    The threads are daemons: when the process ends, so do they, and with their connections what the engine
    does for them.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    results: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                results.put(_outcome(waiting.get_nowait()))

    for _ in range(at_a_time):
        threading.Thread(target=work, daemon=True).start()
    for _ in jobs:
        error = results.get()
        if error is not None:
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            raise error


def _outcome(job: Callable[[], None]) -> Exception | None:
    try:
        job()
    except Exception as e:
        return e
    return None
