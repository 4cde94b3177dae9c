"""A SIP terminal in the stack's network: `smd call --alone` beside the test, a report a second."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tests.harness.media_tools import colour_distance, json_lines
from tests.harness.running import RunningStack, eventually

SMALL = ("--size", "640x360", "--fps", "20", "--kbps", "500")
"""Options for a picture that costs little, where several terminals share a small machine."""
NEAR = 40
"""Colour distance that coding and the limited range cost at most; the colours used differ by far more."""


class Terminal:
    """A running `smd call --json`; a context manager."""

    def __init__(self, stack: RunningStack, room: str, *options: str, seconds: int = 120) -> None:
        self._command = stack.command("call", room, "--alone", "--json", "--seconds", str(seconds), *options)
        self.events: list[dict[str, Any]] = []
        self._errors: list[str] = []

    def __enter__(self) -> Terminal:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def hang_up(self) -> dict[str, Any]:
        """End the call as Ctrl-C does; its summary (empty when there is none)."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self.wait_ended(45)

    def wait_ended(self, timeout: float) -> dict[str, Any]:
        """Wait for the call's end; its summary (empty when there is none)."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"smd call did not end; it said {self._errors[-5:]}") from None
        for thread in self._threads:
            thread.join(timeout=5)
        return next((event for event in reversed(self.events) if event["event"] == "summary"), {})

    def wait(self, check: Callable[[dict[str, Any]], Any], timeout: float, what: str) -> dict[str, Any]:
        """The newest second that passes ``check``."""

        def newest() -> dict[str, Any] | None:
            seconds = [event for event in self.events if event["event"] == "second"]
            if seconds and check(seconds[-1]):
                return seconds[-1]
            assert self._process.poll() is None, f"the call has ended: {self.events[-1:]} {self._errors[-5:]}"
            return None

        try:
            return eventually(newest, timeout, what)
        except AssertionError as e:
            raise AssertionError(f"{e}; the terminal saw {self.events[-1:]} {self._errors[-5:]}") from None

    def wait_sees(self, colour: str, timeout: float = 45) -> dict[str, Any]:
        """Wait for a second with a moving picture that has this colour, whole or in the code's area."""

        def check(second: dict[str, Any]) -> bool:
            seen = second["seen"]
            shown = [one for one in (seen["colour"], seen["code_colour"]) if one]
            return seen["frames"] > 3 and any(colour_distance(one, colour) <= NEAR for one in shown)

        return self.wait(check, timeout, f"the terminal sees #{colour}")

    def wait_hears(self, hz: int, timeout: float = 45) -> dict[str, Any]:
        """Wait for a second in which this tone is heard."""
        return self.wait(lambda second: _is_heard(second, hz), timeout, f"the terminal hears {hz} Hz")

    def hears(self, hz: int) -> bool:
        """Whether this tone was heard in the last second."""
        seconds = [event for event in self.events if event["event"] == "second"]
        return bool(seconds) and _is_heard(seconds[-1], hz)

    def silent_s(self, after: int = 0) -> float:
        """The longest time without sound since the event number ``after``, in seconds."""
        seconds = [event for event in self.events[after:] if event["event"] == "second"]
        return max((event["heard"]["silent_ms"] for event in seconds), default=0) / 1000

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.extend(json_lines([line]))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)


def _is_heard(second: dict[str, Any], hz: int) -> bool:
    heard = second["heard"]
    return bool(heard["level_db"] > -50 and any(abs(tone["hz"] - hz) <= 15 for tone in heard["tones"]))
