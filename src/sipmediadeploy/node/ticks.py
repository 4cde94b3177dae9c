"""A clock's ticks that all loops of an agent share, so that it wakes up once for all that is due."""

from __future__ import annotations

import asyncio

TICK_S = 0.05


async def tick(period_s: float) -> None:
    """Wait for ``period_s``, rounded to the common ticks: for a tick less at most, and never for nothing."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    ticks = max(1, int((now + period_s) / TICK_S) - int(now / TICK_S))
    await asyncio.sleep((int(now / TICK_S) + ticks) * TICK_S - now)
