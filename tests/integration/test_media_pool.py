"""Idle workers are ready before a call needs one, and stay so."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from sipmediadeploy.gateway.media.api import MediaError, WorkerEvents
from sipmediadeploy.gateway.media.pool import WorkerPool
from tests.harness.waiting import until

pytestmark = pytest.mark.integration


def no_events() -> WorkerEvents:
    return WorkerEvents(
        exited=lambda _: None,
        keyframe_wanted=lambda: None,
        rtp_timeout=lambda: None,
        connection=lambda *_: None,
        dtmf=lambda _: None,
        channel=lambda *_: None,
    )


async def test_a_taken_worker_is_replaced() -> None:
    pool = WorkerPool(1)
    try:
        pool.start()
        await until("one is ready", lambda: pool.ready == 1)
        async with asyncio.timeout(0.2):
            taken = await pool.acquire(no_events())
        await until("another is ready", lambda: pool.ready == 1)
        assert taken.alive
        await taken.close()
    finally:
        await pool.close()


async def test_an_idle_worker_that_dies_is_replaced_and_never_handed_out() -> None:
    pool = WorkerPool(1)
    try:
        pool.start()
        await until("one is ready", lambda: pool.ready == 1)
        first = pool._idle[0]
        os.kill(first.pid, signal.SIGKILL)
        await until("its end is seen", lambda: not first.alive)
        second = await pool.acquire(no_events())
        assert second.alive
        assert second.pid != first.pid
        await second.close()
    finally:
        await pool.close()


async def test_workers_that_cannot_start_are_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    pool = WorkerPool(1)
    try:
        with pytest.raises(MediaError, match="exit status 3"):
            await pool.acquire(no_events(), limit_s=2)
        assert pool.ready == 0
        assert pool.error is not None
    finally:
        await pool.close()


async def test_closing_ends_the_idle_workers() -> None:
    pool = WorkerPool(2)
    pool.start()
    await until("two are ready", lambda: pool.ready == 2)
    pids = [worker.pid for worker in pool._idle]
    await pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
