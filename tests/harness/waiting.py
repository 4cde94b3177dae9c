"""Waiting for conditions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(promise: str, holds: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until ``holds()`` is true; fail with ``promise`` when it is not in time."""

    async def answer() -> object:
        return holds()

    await until_async(promise, answer, limit_s)


async def until_async(promise: str, holds: Callable[[], Awaitable[object]], limit_s: float = 30.0) -> None:
    """Like :func:`until` for a coroutine."""
    deadline = time.monotonic() + limit_s
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:.0f} s: {promise}")
        await asyncio.sleep(0.05)
