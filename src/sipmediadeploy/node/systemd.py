"""The supervisor of a replica that is a server: systemd. Service NAME is the unit ``smd-NAME.service``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sipmediadeploy.node.machine import started_at
from sipmediadeploy.node.supervisor import S6, ServiceStatus, Supervisor, SupervisorError, run_tool

UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
"""It is there if, and only if, systemd is this machine's first process (sd_booted(3))."""
_JOURNAL_LIMIT_S = 5.0
_SHOWN = ("LoadState", "ActiveState", "MainPID")


def supervisor_here(booted: Path = BOOTED) -> Supervisor:
    """The supervisor of this machine: systemd where it is the first process, s6 elsewhere."""
    return Systemd() if booted.is_dir() else S6()


class Systemd:
    """:class:`~sipmediadeploy.node.supervisor.Supervisor` with systemd, by ``systemctl``.

    A job is given to systemd and not waited for: how long a service takes to start or to end is no concern of
    the agent, whose health checks tell.
    """

    def __init__(self, units: Path = UNITS, systemctl: str = "systemctl") -> None:
        """``units`` has the units of the replica's services."""
        self._known: dict[str, tuple[ServiceStatus, str]] = {}
        """By service: its status when systemd was asked last, and when its process was started."""
        self._units = units
        self._systemctl = systemctl

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
        """See :class:`~sipmediadeploy.node.supervisor.Supervisor`.

        While the service's process lives, systemd is not asked again.
        """
        if service in self._known:
            status, process = self._known[service]
            if status.pid is not None and started_at(status.pid) == process:
                return status
        shown = f"--property={','.join(_SHOWN)}"
        text = await run_tool(self._systemctl, "show", shown, self._unit(service))
        status = read_status(service, properties(text))
        if status.pid is not None:
            self._known[service] = status, started_at(status.pid) or ""
        return status

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


def read_status(service: str, shown: Mapping[str, str]) -> ServiceStatus:
    """The status by a unit's properties. Pure.

    One that waits to be started again is not up: its process is gone.

    Raises:
        SupervisorError: systemd can't run the unit.
    """
    load = shown.get("LoadState", "")
    if load != "loaded":
        raise SupervisorError(f"systemd can't run service '{service}': its unit is {load or 'unknown'}")
    pid = _number(shown.get("MainPID"))
    up = shown.get("ActiveState") in ("active", "reloading")
    return ServiceStatus(up, pid if up and pid > 0 else None)


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
