"""The connection to the Docker Engine, and starting it where it is installed and not running."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import docker
import requests
from docker.errors import APIError, DockerException

from sipmediadeploy.providers.base import ProviderError

SOCKET = Path("/var/run/docker.sock")
LOG = Path("/var/log/smd-dockerd.log")
REQUEST_TIMEOUT_S = 30
_START_TIMEOUT_S = 60.0

_threads = ThreadPoolExecutor(32, thread_name_prefix="engine")

T = TypeVar("T")


def connect(timeout_s: int = REQUEST_TIMEOUT_S) -> docker.DockerClient:
    """A client of the running engine (``DOCKER_HOST``, or the usual socket); each request is limited in time.

    Raises:
        ProviderError: the engine can't be reached; the message says why and what to do.
    """
    try:
        client = docker.DockerClient.from_env(timeout=timeout_s)
        client.ping()
    except (DockerException, requests.RequestException, OSError) as e:
        raise ProviderError(_why_unreachable(e)) from None
    return client


class KeptClient:
    """A client that is kept for what is asked all the time.

    Making one asks the engine twice. Each request has a connection of its own all the same, so that none is
    left over from an engine that is gone.
    """

    def __init__(self, timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self._client: docker.DockerClient | None = None

    def get(self) -> docker.DockerClient:
        """The client. Raises ProviderError like :func:`connect`, the first time."""
        if self._client is None:
            client = connect(self._timeout_s)
            client.api.headers["Connection"] = "close"
            self._client = client
        return self._client


def ensure_engine(report: Callable[[str], None] = lambda _line: None) -> docker.DockerClient:
    """A client of the engine, which is started first where it is installed on this host and not running.

    Raises:
        ProviderError: there is no engine, it does not come up, or this user may not use it.
    """
    try:
        return connect()
    except ProviderError:
        if "DOCKER_HOST" in os.environ or _refuses_this_user():
            raise
    dockerd, path = find_dockerd()
    if dockerd is None:
        raise ProviderError(
            "the Docker Engine is not installed on this host: "
            "install it (on Debian and Ubuntu: apt-get install docker.io) and try again"
        )
    if os.geteuid() != 0:
        raise ProviderError(
            "the Docker Engine is not running and only root can start it: try again with sudo"
        )
    report("starting the Docker Engine")
    if Path("/run/systemd/system").is_dir():
        where = _start_with_systemd()
        process = None
    else:
        where = f"see {LOG}"
        process = _start_detached(dockerd, path)
    return _wait(process, where)


def find_dockerd() -> tuple[str | None, str]:
    """Where the engine's program is on this host, None: nowhere; and the search path that it needs."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
    return shutil.which("dockerd", path=path), path


def can_start() -> bool:
    """Whether :func:`ensure_engine` would start an engine that is not running."""
    return "DOCKER_HOST" not in os.environ and os.geteuid() == 0 and find_dockerd()[0] is not None


def _start_with_systemd() -> str:
    hint = "see: journalctl -u docker"
    try:
        result = subprocess.run(
            ["systemctl", "start", "docker"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise ProviderError(
            f"the Docker Engine did not start within {_START_TIMEOUT_S:.0f} s", hint=hint
        ) from None
    if result.returncode:
        raise ProviderError(f"the Docker Engine does not start: {result.stderr.strip()}", hint=hint)
    return hint


def _start_detached(dockerd: str, path: str) -> subprocess.Popen[bytes]:
    with LOG.open("ab") as log:
        return subprocess.Popen(
            [dockerd, "--host", f"unix://{SOCKET}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PATH": path},
        )


def _wait(process: subprocess.Popen[bytes] | None, where: str) -> docker.DockerClient:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return connect()
        except ProviderError as e:
            if process is not None and process.poll() is not None:
                tail = LOG.read_text(errors="replace").splitlines()[-3:]
                raise ProviderError(
                    f"dockerd ended with code {process.returncode}: {' / '.join(tail)}"
                ) from None
            if time.monotonic() > deadline:
                late = f"the Docker Engine did not come up in time ({e})"
                raise ProviderError(late, hint=where) from None
        time.sleep(0.1)


def _refuses_this_user() -> bool:
    try:
        return stat.S_ISSOCK(SOCKET.stat().st_mode) and not os.access(SOCKET, os.R_OK | os.W_OK)
    except OSError:
        return False


def _why_unreachable(error: Exception) -> str:
    target = os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
    if "DOCKER_HOST" not in os.environ and _refuses_this_user():
        return (
            f"{SOCKET} may not be used by this user: try again with sudo, or let an administrator add the "
            "user to the group 'docker' (which is as much as root)"
        )
    return f"the Docker Engine does not answer at {target}: {reason(error)}"


def reason(error: Exception) -> str:
    """What an error of the engine or of the connection to it says, on one line."""
    if isinstance(error, APIError) and error.explanation:
        text = str(error.explanation)
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


async def in_thread(
    what: str, timeout_s: float, call: Callable[[], T], threads: ThreadPoolExecutor | None = None
) -> T:
    """Run the blocking ``call`` in a worker thread (of ``threads``); ``what`` names it in errors ("inventory
    of stack demo").

    The thread itself is bounded by the client's time limit for each request, and cleans up after itself.

    Raises:
        ProviderError: the engine refused, could not be reached, or did not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().run_in_executor(threads or _threads, call)
    except TimeoutError:
        raise ProviderError(f"{what}: no answer from the Docker Engine within {timeout_s:.0f} s") from None
    except (DockerException, requests.RequestException, OSError) as e:
        raise ProviderError(f"{what}: {reason(e)}") from None
