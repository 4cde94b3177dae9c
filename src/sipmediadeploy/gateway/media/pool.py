"""Idle media workers, started before a call needs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import structlog

from sipmediadeploy.gateway.media.api import MediaError, WorkerEvents
from sipmediadeploy.gateway.media.process import WorkerProcess

log = structlog.get_logger()

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class WorkerPool:
    """Keeps ``size`` workers ready; one that is taken or dies is replaced in the background."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: deque[WorkerProcess] = deque()
        self._changed = asyncio.Condition()
        self._refill: asyncio.Task[None] | None = None
        self._error: str | None = None

    @property
    def ready(self) -> int:
        """How many workers could take a call now."""
        return sum(worker.alive for worker in self._idle)

    @property
    def error(self) -> str | None:
        """Why the last start failed; None when it worked."""
        return self._error

    def start(self) -> None:
        """Begin to fill the pool."""
        self._refill = self._refill or asyncio.create_task(self._fill())

    async def acquire(self, events: WorkerEvents, limit_s: float = 5.0) -> WorkerProcess:
        """A ready worker, waiting for one if need be. The caller closes it.

        Raises:
            MediaError: none became ready within ``limit_s`` seconds.
        """
        self.start()
        try:
            async with asyncio.timeout(limit_s), self._changed:
                await self._changed.wait_for(lambda: self.ready > 0)
                worker = self._take()
        except TimeoutError:
            why = f": {self._error}" if self._error else ""
            raise MediaError(f"no media worker became ready within {limit_s:.0f} s{why}") from None
        worker.attach(events)
        return worker

    def _take(self) -> WorkerProcess:
        while not (worker := self._idle.popleft()).alive:
            pass
        self._wake()
        return worker

    def _wake(self) -> None:
        self._changed.notify_all()

    async def close(self) -> None:
        """End the idle workers; those in calls belong to their calls."""
        if self._refill is not None:
            self._refill.cancel()
            await asyncio.wait((self._refill,))
        workers, self._idle = list(self._idle), deque()
        await asyncio.gather(*(worker.close() for worker in workers))

    async def _fill(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            async with self._changed:
                with contextlib.suppress(TimeoutError):  # an idle worker may die without telling anybody
                    async with asyncio.timeout(1.0):
                        await self._changed.wait_for(lambda: self.ready < self._size)
                self._idle = deque(worker for worker in self._idle if worker.alive)
            if self.ready >= self._size:
                continue
            try:
                worker = await WorkerProcess.spawn()
            except MediaError as error:
                self._error = str(error)
                log.error("media_worker_start_failed", error=self._error, retry_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                continue
            self._error, pause = None, _FIRST_PAUSE_S
            async with self._changed:
                self._idle.append(worker)
                self._wake()
