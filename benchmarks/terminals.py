"""The callers of a benchmark: test terminals in processes of their own, and a pair without SIP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any


class Terminal:
    """One running ``testcall --json``; its lines are read as they come."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.events: list[dict[str, Any]] = []
        self.other_output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def seconds(self) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event["event"] == "second"]

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def hang_up(self) -> None:
        if not self.ended:
            self._process.send_signal(signal.SIGINT)

    def wait(self, timeout: float = 20) -> bool:
        """Whether sound and picture arrived."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(timeout=2)
        return status == 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:  # from a library, perhaps in the middle of a line of ours
                self.other_output.append(line)
                continue
            self.events.append(event)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class PlainPair:
    """Two terminals without SIP around :mod:`benchmarks.plain_pipeline`. Needs GStreamer on this machine."""

    def __init__(self, video: bool) -> None:
        # Only this class needs GStreamer: the terminals above may run in containers.
        from sipmediadeploy.gateway.media.api import AudioStream, SipMedia, VideoStream
        from sipmediadeploy.gateway.testcall.elements import encode_pattern
        from sipmediadeploy.gateway.testcall.media import Media, Ports
        from sipmediadeploy.gateway.testcall.options import parse_options

        arguments = ["plain", "--to", "127.0.0.1", "--preencoded", "--beep"]
        senders = [parse_options([*arguments, "--no-decode"]), parse_options(arguments)]
        clip = encode_pattern(senders[0]) if video else None
        ports = [(Ports.bind("127.0.0.1"), Ports.bind("127.0.0.1")) for _ in senders]
        base = _free_base()
        numbers = [base, *(port.port for pair in ports for port in pair)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.plain_pipeline", *map(str, numbers)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._terminals = []
        for index, (options, (audio, picture)) in enumerate(zip(senders, ports, strict=True)):
            to = base + 4 * index
            codec: Any = ("PCMA", "opus")[index]
            media = SipMedia(
                "127.0.0.1",
                AudioStream(codec, (8, 111)[index], audio.port, "127.0.0.1", to),
                VideoStream(96, picture.port, "127.0.0.1", to + 2, pli=False) if video else None,
            )
            terminal = Media(options, clip, audio, picture)
            terminal.start(media)
            self._terminals.append(terminal)

    @property
    def pid(self) -> int:
        """The plain pipeline's process."""
        return self._process.pid

    def second(self, t: int) -> dict[str, Any]:
        """A report of the terminal that decodes, in the form of ``testcall --json``."""
        from sipmediadeploy.gateway.testcall.report import second_json

        report: dict[str, Any] = json.loads(second_json(self._terminals[1].second(t)))
        return report

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.stop()
        self._process.terminate()
        self._process.wait(timeout=10)


def _free_base() -> int:
    """A port such that it and the next seven were free just now."""
    for _ in range(100):
        probes = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
        try:
            probes[0].bind(("127.0.0.1", 0))
            base: int = probes[0].getsockname()[1]
            for offset, probe in enumerate(probes[1:], 1):
                probe.bind(("127.0.0.1", base + offset))
            return base
        except (OSError, OverflowError):
            continue
        finally:
            for probe in probes:
                probe.close()
    raise OSError("no eight free UDP ports in a row")
