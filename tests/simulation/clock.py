"""An event loop whose time passes only when nothing is left to do: deterministic, and hours take seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never happens")
        self._loop.virtual_time += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual time."""

    def __init__(self) -> None:
        self.virtual_time = 1000.0
        super().__init__(_Selector(self))
        self.slow_callback_duration = 1e9

    def time(self) -> float:
        return self.virtual_time


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
