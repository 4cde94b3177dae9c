"""An event loop whose time passes only when nothing is left to do: deterministic, and hours take seconds.

On it run *processes*: what a process started, and all that it starts in turn, has a clock of its own speed,
and can be frozen between any two steps, as SIGSTOP does, or ended at a given step, as SIGKILL does.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class Process:
    """A simulated process."""

    def __init__(self, name: str, speed: float = 1.0) -> None:
        """``speed``: how fast its clock runs, by true time."""
        self.name = name
        self.speed = speed
        self.steps = 0
        self.dies_at: int | None = None
        """The step that it does not do any more."""
        self.dead = False
        self._frozen = False
        self._held: list[tuple[asyncio.Handle, Callable[[], None]]] = []

    @property
    def frozen(self) -> bool:
        """It does nothing."""
        return self._frozen

    def freeze(self) -> None:
        """Stop it between two steps."""
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on, with all that came meanwhile."""
        if self.dead:
            return
        self._frozen = False
        held, self._held = self._held, []
        for handle, go_on in held:
            if not handle.cancelled():
                go_on()

    def kill(self) -> None:
        """It never does anything again."""
        self.dead = self._frozen = True

    def bury(self) -> None:
        """The scene is over: let its tasks be cancelled."""
        self.dead, self.dies_at = False, None
        self.thaw()

    def may_step(self) -> bool:
        """Count a step; False: it is frozen or dead."""
        self.steps += 1
        if self.dies_at is not None and self.steps >= self.dies_at:
            self.kill()
        return not self._frozen

    def hold(self, handle: asyncio.Handle, go_on: Callable[[], None]) -> None:
        """Keep a step until it thaws."""
        self._held.append((handle, go_on))


RUNNING: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
"""The process whose code runs; None: the world itself."""


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never happens")
        if timeout > 0.0:
            self._loop.virtual_time += timeout
        return []  # nothing comes from outside


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual time."""

    def __init__(self) -> None:
        self.virtual_time = 1000.0
        super().__init__(_Selector(self))
        self.slow_callback_duration = 1e9

    def time(self) -> float:
        """The clock of the process that asks."""
        process = RUNNING.get()
        return self.virtual_time * (process.speed if process is not None else 1.0)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Only a process that is not frozen does its steps."""
        context = context or contextvars.copy_context()
        process = context.get(RUNNING)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        made: list[asyncio.Handle] = []

        def step() -> None:
            if process.may_step():
                callback(*args)
            else:
                process.hold(made[0], lambda: self._again(step, made, context))

        made.append(super().call_soon(step, context=context))
        return made[0]

    def _again(
        self, step: Callable[[], None], made: list[asyncio.Handle], context: contextvars.Context
    ) -> None:
        def unless_cancelled() -> None:
            if not made[0].cancelled():
                step()

        super().call_soon(unless_cancelled, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """``when`` is on the process' clock; what is due becomes a step of it."""
        context = context or contextvars.copy_context()
        process = context.get(RUNNING)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        made: list[asyncio.TimerHandle] = []

        def due() -> None:
            if process.may_step():
                callback(*args)
            else:
                process.hold(made[0], lambda: self._again(due, list(made), context))

        made.append(super().call_at(when / process.speed, due, context=context))
        return made[0]

    def start(self, process: Process, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``main`` as ``process``."""
        context = contextvars.copy_context()
        context.run(RUNNING.set, process)
        return self.create_task(main, name=process.name, context=context)

    def serve(self, answer: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``answer`` on the other side: it goes on whatever becomes of who asked."""
        context = contextvars.copy_context()
        context.run(RUNNING.set, None)
        return self.create_task(answer, context=context)


def virtual_loop() -> VirtualLoop:
    """The running one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
