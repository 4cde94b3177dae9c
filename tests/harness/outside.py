"""Another host on the network: a container with no network but a cable to this host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from tests.harness.running import run


class OutsideHost:
    """A container of the test image behind a veth pair; a context manager. Needs root."""

    reaches = "198.18.250.1"
    """This host's address on the cable, which is its default gateway."""
    address = "198.18.250.2"

    def __init__(self, name: str, image: str, shared: Path) -> None:
        """``shared``: the directory that it has under the same path."""
        self._name = name
        self._image = image
        self._shared = shared
        self._here = f"{name.replace('-', '')[:13]}-h"

    def __enter__(self) -> OutsideHost:
        self._remove()
        words = ["docker", "run", "-d", "--init", "--name", self._name, "--network", "none"]
        words += ["--shm-size", "512m", "--volume", f"{self._shared}:{self._shared}"]
        run(*words, self._image, "sleep", "infinity")
        try:
            self._connect()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def prefix(self) -> list[str]:
        """The words that run a command on it."""
        return ["docker", "exec", "-i", self._name]

    def run(self, *words: str, timeout: float = 60) -> str:
        """Run a command on it; its standard output."""
        return run(*self.prefix(), *words, timeout=timeout)

    def reaches_tcp(self, address: str, port: int, timeout: float = 2) -> bool:
        """Whether a TCP connection to there comes about."""
        words = ["timeout", f"{timeout:g}", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
        return subprocess.run([*self.prefix(), *words], capture_output=True, check=False).returncode == 0

    def _connect(self) -> None:
        pid = run("docker", "inspect", "--format", "{{.State.Pid}}", self._name).strip()
        inside = ["nsenter", "--net", "--target", pid, "ip"]
        peer = ["peer", "name", "eth0", "netns", pid]
        run("ip", "link", "add", self._here, "type", "veth", *peer)
        run("ip", "addr", "add", f"{self.reaches}/30", "dev", self._here)
        run("ip", "link", "set", self._here, "up")
        run(*inside, "addr", "add", f"{self.address}/30", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", self.reaches)

    def _remove(self) -> None:
        # The cable goes with the container's network namespace; a while later, so it is pulled here.
        subprocess.run(["docker", "rm", "-f", self._name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._here], capture_output=True, check=False)
