"""Starts the lab's units, each once what it waits for is ready, and starts again what ends by itself.

It is process 1 of the lab: it also reaps what others leave behind. Progress goes to a file of JSON lines, so
that whoever brings the lab up can come, go, or be killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.openstack.inside.units import ENVIRONMENT, Ready, Unit

_TICK_S = 0.1
_PROBE_PAUSE_S = 0.1
_ATTEMPTS = 3  # of a task; each begins from nothing, and on a busy machine a time limit may have been short
_RESTARTS_WHILE_STARTING = 5
_LONGEST_PAUSE_S = 30
_DATABASE_LIMIT_S = 5
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class Running:
    """A unit's state."""

    unit: Unit
    pid: int = 0
    """0: it does not run."""
    done: bool = False
    """It is ready, or over, so that others may start."""
    ended: int = 0
    """How many times it ended by itself."""
    not_before: float = 0.0
    """When it may be started again, of ``time.monotonic()``."""


class Supervisor:
    """Runs ``units`` with their output in ``log``; finished tasks leave a file in ``done``."""

    def __init__(self, units: list[Unit], log: Path, done: Path, progress: Path) -> None:
        self._units = {unit.name: Running(unit) for unit in units}
        self._log = log
        self._stamps = done
        self._progress = progress
        self._started = time.monotonic()
        self._up = False
        self._failed = False
        for running in self._units.values():
            running.done = running.unit.once and (done / running.unit.name).exists()

    def run(self) -> None:
        """Until SIGTERM, which ends all of it."""
        signals = {signal.SIGCHLD, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        while True:
            self._reap()
            if not self._failed:
                self._start_what_can_be()
            caught = signal.sigtimedwait(signals, _TICK_S)
            if caught is not None and caught.si_signo == signal.SIGTERM:
                self._stop()
                return

    def _start_what_can_be(self) -> None:
        now = time.monotonic()
        for running in self._units.values():
            unit = running.unit
            if running.pid or now < running.not_before or (running.done and not unit.is_service):
                continue
            if all(self._units[name].done for name in unit.after):
                self._start(running)
        if not self._up and all(running.done for running in self._units.values()):
            self._up = True
            self._say("up", "")

    def _start(self, running: Running) -> None:
        unit = running.unit
        log = self._log / f"{unit.name}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        offset = log.stat().st_size if log.exists() else 0
        running.pid = os.posix_spawn(
            unit.command[0],
            unit.command,
            {**ENVIRONMENT, **unit.environment},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
        )
        self._say("started", unit.name)
        if unit.ready is not None and not running.done:
            pid = running.pid
            is_ready = probe(unit.ready, log, offset)
            threading.Thread(target=self._wait_ready, args=(running, pid, is_ready), daemon=True).start()

    def _wait_ready(self, running: Running, pid: int, is_ready: Callable[[], bool]) -> None:
        while running.pid == pid:
            if is_ready():
                self._say("ready", running.unit.name)
                running.done = True
                return
            time.sleep(_PROBE_PAUSE_S)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for running in self._units.values():
                if running.pid == pid:
                    self._has_ended(running, os.waitstatus_to_exitcode(status))

    def _has_ended(self, running: Running, code: int) -> None:
        unit = running.unit
        running.pid = 0
        if not unit.is_service and code == 0:
            running.done = True
            if unit.once:
                (self._stamps / unit.name).touch()
            self._say("done", unit.name)
            return
        running.ended += 1
        running.not_before = time.monotonic() + min(running.ended, _LONGEST_PAUSE_S)
        self._say("ended", unit.name, code=code)
        limit = _RESTARTS_WHILE_STARTING if unit.is_service else _ATTEMPTS - 1
        if not self._up and running.ended > limit:
            self._failed = True
            self._say("failed", unit.name, code=code)

    def _stop(self) -> None:
        """End all. The database is asked to end: it loses nothing either way, but starts faster."""
        self._say("stopping", "")
        database = self._units.get("mariadb")
        for running in self._units.values():
            if running.pid:
                os.kill(running.pid, signal.SIGTERM if running is database else signal.SIGKILL)
        end = time.monotonic() + _DATABASE_LIMIT_S
        while database is not None and database.pid and time.monotonic() < end:
            self._reap()
            time.sleep(0.02)

    def _say(self, event: str, unit: str, **more: object) -> None:
        line = {"at": round(time.monotonic() - self._started, 1), "event": event, "unit": unit, **more}
        with self._progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def probe(ready: Ready, log: Path, offset: int) -> Callable[[], bool]:
    """What tells whether a unit is ready, whose log begins at byte ``offset``."""

    def is_ready() -> bool:
        if ready.tcp is not None and not _accepts(socket.AF_INET, ready.tcp):
            return False
        if ready.unix is not None and not _accepts(socket.AF_UNIX, ready.unix):
            return False
        if ready.http is not None and not _answers(ready.http):
            return False
        return ready.line is None or _has_line(log, offset, ready.line)

    return is_ready


def _accepts(family: socket.AddressFamily, address: tuple[str, int] | str) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(address)
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        _NO_PROXY.open(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _has_line(log: Path, offset: int, text: str) -> bool:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return text.encode() in file.read()
    except OSError:
        return False
