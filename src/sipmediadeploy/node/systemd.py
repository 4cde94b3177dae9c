"""The supervisor of a replica that is a server: systemd. Service NAME is the unit ``smd-NAME.service``."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sipmediadeploy.node.supervisor import S6, ServiceStatus, Supervisor, SupervisorError, run_tool

UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
"""It is there if, and only if, systemd is this machine's first process (sd_booted(3))."""
_JOURNAL_LIMIT_S = 5.0
_SHOWN = ("LoadState", "ActiveState", "MainPID", "StateChangeTimestampMonotonic")


def supervisor_here(booted: Path = BOOTED) -> Supervisor:
    """The supervisor of this machine: systemd where it is the first process, s6 elsewhere."""
    return Systemd() if booted.is_dir() else S6()


class Systemd:
    """:class:`~sipmediadeploy.node.supervisor.Supervisor` with systemd, by ``systemctl``.

    A job is given to systemd and not waited for: how long a service takes to start or to end is no concern of
    the agent, whose health checks tell.
    """

    def __init__(
        self, units: Path = UNITS, systemctl: str = "systemctl", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``units`` has the units of the replica's services; ``clock`` counts as CLOCK_MONOTONIC does."""
        self._units = units
        self._systemctl = systemctl
        self._clock = clock

    async def start(self, service: str) -> None:
        """See :class:`~sipmediadeploy.node.supervisor.Supervisor`."""
        await run_tool(self._systemctl, "start", "--no-block", self._unit(service))

    async def restart(self, service: str) -> None:
        """See :class:`~sipmediadeploy.node.supervisor.Supervisor`."""
        await run_tool(self._systemctl, "restart", "--no-block", self._unit(service))

    async def kill(self, service: str) -> None:
        """See :class:`~sipmediadeploy.node.supervisor.Supervisor`; the service's children end, too."""
        await run_tool(self._systemctl, "kill", "--kill-who=all", "--signal=SIGKILL", self._unit(service))

    async def status(self, service: str) -> ServiceStatus:
        """See :class:`~sipmediadeploy.node.supervisor.Supervisor`."""
        shown = f"--property={','.join(_SHOWN)}"
        text = await run_tool(self._systemctl, "show", shown, self._unit(service))
        return read_status(service, properties(text), self._clock())

    def logs(self, lines: int) -> list[str]:
        """See :class:`~sipmediadeploy.node.supervisor.Supervisor`."""
        result: list[str] = []
        for unit in sorted(self._units.glob("smd-*.service")) if lines > 0 else []:
            name = unit.stem.removeprefix("smd-")
            result += [f"{name}: {line}" for line in _journal(unit.name, lines)]
        return result

    def _unit(self, service: str) -> str:
        unit = f"smd-{service}.service"
        if not (self._units / unit).exists():
            raise SupervisorError(f"there is no service '{service}': {self._units / unit} is missing")
        return unit


def properties(text: str) -> dict[str, str]:
    """What ``systemctl show`` printed: a property and its value a line. Pure."""
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def read_status(service: str, shown: Mapping[str, str], now: float) -> ServiceStatus:
    """The status by a unit's properties; ``now`` is in seconds of CLOCK_MONOTONIC. Pure.

    One that waits to be started again is not up: its process is gone.

    Raises:
        SupervisorError: systemd can't run the unit.
    """
    load = shown.get("LoadState", "")
    if load != "loaded":
        raise SupervisorError(f"systemd can't run service '{service}': its unit is {load or 'unknown'}")
    pid = _number(shown.get("MainPID"))
    changed = _number(shown.get("StateChangeTimestampMonotonic"))
    up = shown.get("ActiveState") in ("active", "reloading")
    since = max(0.0, now - changed / 1e6) if changed else 0.0
    return ServiceStatus(up, pid if up and pid > 0 else None, since)


def _number(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"\d+", text) else 0


def _journal(unit: str, lines: int) -> list[str]:
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={unit}"]
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=_JOURNAL_LIMIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return [f"the journal can't be read: {e}"]
    return result.stdout.decode(errors="replace").splitlines()
