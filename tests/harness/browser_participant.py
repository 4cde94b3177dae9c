"""A browser in a room: headless Chromium on the demo page, in a container of the test image."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.harness.media_tools import colour_distance, write_mjpeg, write_tone
from tests.harness.running import eventually

NEAR = 40
"""Colour distance that coding and the limited range cost at most; the colours used differ by far more."""


class BrowserParticipant:
    """A running browser; a context manager. It reports what it sees and hears once a second."""

    def __init__(
        self,
        prefix: Sequence[str],
        url: str,
        name: str,
        workdir: Path,
        *,
        colour: str = "c03020",
        tone_hz: int = 800,
        seconds: int = 150,
        media: str = "all",
        speaks: bool = False,
    ) -> None:
        """``speaks``: the tone comes in bursts, which a bridge takes for speech; a steady one is noise."""
        self.name = name
        self.seen: list[dict[str, Any]] = []
        self._workdir = workdir
        workdir.mkdir(parents=True, exist_ok=True)
        picture = write_mjpeg(workdir / f"{name}.mjpeg", colour, 2, fps=15, size=(640, 360))
        self._command = [*prefix, "node", "/opt/browser/browser.mjs", "--json", "--url", url, "--name", name]
        self._command += ["--seconds", str(seconds), "--tone", str(tone_hz), "--video", str(picture)]
        self._command += ["--media", media]
        if speaks:
            audio = write_tone(workdir / f"{name}.wav", tone_hz, 2, bursts=True)
            self._command += ["--audio", str(audio)]
        self._other_lines: list[str] = []

    def __enter__(self) -> BrowserParticipant:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait(lambda report: report.get("state") == "joined", 40, "the browser is in the room")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._say("quit")
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(timeout=15)
        self._reader.join(timeout=5)

    def wait(self, check: Callable[[dict[str, Any]], Any], timeout: float, what: str) -> dict[str, Any]:
        """The newest report that passes ``check``."""

        def newest() -> dict[str, Any] | None:
            assert self._process.poll() is None, f"the browser has ended: {self._other_lines[-10:]}"
            return self.seen[-1] if self.seen and check(self.seen[-1]) else None

        try:
            return eventually(newest, timeout, what)
        except AssertionError as e:
            raise AssertionError(f"{e}; {self.name} saw {self.seen[-1:]} {self._other_lines[-5:]}") from None

    def of(self, report: dict[str, Any], other: str) -> dict[str, Any] | None:
        """What the report says of the participant named ``other``."""
        return next((one for one in report["participants"] if one["name"] == other), None)

    def wait_sees(self, other: str, colour: str, timeout: float = 45) -> None:
        """Wait until the picture of the participant ``other`` has this colour, in part or whole."""

        def check(report: dict[str, Any]) -> bool:
            seen = self.of(report, other)
            if seen is None or not seen["video"]:
                return False
            shown = (bytes(seen["video"]["grid"][3]).hex(), bytes(seen["video"]["colour"]).hex())
            return min(colour_distance(one, colour) for one in shown) <= NEAR

        self.wait(check, timeout, f"{self.name} sees #{colour} of {other}")

    def wait_hears(self, other: str, hz: int, timeout: float = 45) -> None:
        """Wait until the tone of the participant ``other`` is heard."""

        def check(report: dict[str, Any]) -> bool:
            seen = self.of(report, other)
            peaks = seen["audio"]["peaks"] if seen and seen["audio"] else []
            return any(abs(peak["hz"] - hz) <= 15 and peak["db"] > -60 for peak in peaks)

        self.wait(check, timeout, f"{self.name} hears {hz} Hz of {other}")

    def screenshot(self, path: Path) -> Path:
        """Save what the page looks like now."""
        inside = self._workdir / path.name
        before = sum("screenshot" in line for line in self._other_lines)
        self._say(f"screenshot {inside}")
        eventually(
            lambda: sum("screenshot" in line for line in self._other_lines) > before,
            45,
            "a screenshot is taken",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(inside.read_bytes())
        return path

    def press(self, control: str) -> None:
        """Press a button of the page by its id: ``microphone``, ``camera``, ``leave``, ..."""
        self._say(control)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                report = json.loads(line)
            except ValueError:
                report = {}
            if report.get("event") == "second":
                self.seen.append(report)
            else:
                self._other_lines.append(line.strip())
