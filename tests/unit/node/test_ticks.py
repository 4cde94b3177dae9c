"""Loops of an agent wake up together."""

from __future__ import annotations

import asyncio

import pytest

from sipmediadeploy.node.ticks import TICK_S, tick


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose clock goes on by itself when everybody waits."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize("start", [1000.0, 1000.013, 1000.049, 7.3])
@pytest.mark.parametrize("period", [0.05, 0.1, 0.25, 2.0])
def test_a_wait_ends_on_a_tick_and_is_a_tick_too_short_at_most(
    start: float, period: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    loop = _Loop(start)
    loop.run_until_complete(tick(period))
    loop.close()
    (seconds,) = waited
    assert period - TICK_S - 1e-6 <= seconds <= period + 1e-6
    assert seconds > 0
    end = (start + seconds) / TICK_S
    assert abs(end - round(end)) < 1e-6
