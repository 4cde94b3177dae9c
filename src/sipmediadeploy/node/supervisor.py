"""The supervisor that keeps a replica's services running: what the agent asks of it, and s6 in containers.

On servers it is systemd: ``node/systemd.py``.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SERVICES = Path("/run/service")
LOGS = Path("/run/smd/log")
_LIMIT_S = 5.0


class SupervisorError(Exception):
    """The supervisor did not do what was asked. The message says what."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What the supervisor says of one service."""

    up: bool
    pid: int | None


class Supervisor(Protocol):
    """Starts services, restarts them when they die, and knows how they are."""

    async def start(self, service: str) -> None:
        """Have the service run from now on. Starting what runs is no error.

        Raises:
            SupervisorError: there is no such service, or the supervisor is gone.
        """
        ...

    async def restart(self, service: str) -> None:
        """Stop the service and start it again. Raises SupervisorError like :meth:`start`."""
        ...

    async def kill(self, service: str) -> None:
        """End it by SIGKILL; it is started again. Raises SupervisorError like :meth:`start`."""
        ...

    async def status(self, service: str) -> ServiceStatus:
        """Raises SupervisorError like :meth:`start`."""
        ...

    def logs(self, lines: int) -> list[str]:
        """The last ``lines`` lines of each service and of the agent, prefixed with the service's name."""
        ...


class S6:
    """:class:`Supervisor` with s6: a service is a directory under a scanned one, controlled by ``s6-svc``."""

    def __init__(self, services: Path = SERVICES, logs: Path = LOGS) -> None:
        self._services = services
        self._logs = logs

    async def start(self, service: str) -> None:
        """See :class:`Supervisor`."""
        directory = self._directory(service)
        await run_tool("s6-svc", "-u", str(directory))
        # Without it the service also comes up again when its supervising process had to be replaced.
        (directory / "down").unlink(missing_ok=True)

    async def restart(self, service: str) -> None:
        """See :class:`Supervisor`."""
        await run_tool("s6-svc", "-r", str(self._directory(service)))

    async def kill(self, service: str) -> None:
        """See :class:`Supervisor`."""
        await run_tool("s6-svc", "-k", str(self._directory(service)))

    async def status(self, service: str) -> ServiceStatus:
        """See :class:`Supervisor`."""
        path = self._directory(service) / "supervise" / "status"
        try:
            return read_status(path.read_bytes())
        except FileNotFoundError:  # s6-supervise has not begun yet
            return ServiceStatus(up=False, pid=None)
        except OSError as e:
            raise SupervisorError(
                f"the status of service '{service}' can't be read: {path}: {e.strerror}"
            ) from None

    def logs(self, lines: int) -> list[str]:
        """See :class:`Supervisor`."""
        result: list[str] = []
        for directory in sorted(path for path in self._logs.glob("*") if path.is_dir()):
            files = [*sorted(directory.glob("@*")), directory / "current"]
            text = "".join(_read(file) for file in files)
            result += text.splitlines()[-lines:] if lines > 0 else []
        return result

    def _directory(self, service: str) -> Path:
        directory = self._services / service
        if not (directory / "run").exists():
            raise SupervisorError(f"there is no service '{service}' in {self._services}")
        return directory


def read_status(content: bytes) -> ServiceStatus:
    """What s6-supervise keeps in ``supervise/status`` (s6's ``s6_svstatus_pack``). Pure.

    Two time stamps (TAI64N, 12 bytes) of the last change and of readiness, the pid (8 bytes), in newer
    versions its process group (8), how it ended (2) and flags (1), all big-endian.

    Raises:
        SupervisorError: it is not of that length.
    """
    if len(content) not in (35, 43):
        raise SupervisorError(f"a status of {len(content)} bytes is not one of s6")
    (pid,) = struct.unpack_from(">Q", content, 24)
    return ServiceStatus(pid > 0, pid or None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # rotated away just now
        return ""


async def run_tool(*command: str) -> str:
    """Run a supervisor's own tool; what it printed.

    Raises:
        SupervisorError: it is missing, fails, or takes too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as e:
        raise SupervisorError(f"{command[0]} can't be run: {e.strerror}") from None
    try:
        async with asyncio.timeout(_LIMIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        raise SupervisorError(f"{' '.join(command)}: no answer within {_LIMIT_S:g} s") from None
    if process.returncode != 0:
        raise SupervisorError(f"{' '.join(command)}: {err.decode(errors='replace').strip()}")
    return out.decode()
