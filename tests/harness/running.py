"""A stack as a user runs it: brought up, asked and taken down by the `smd` command, broken by `docker`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.status import status_data
from sipmediadeploy.cli.view import wanted_numbers
from sipmediadeploy.stack import Role, load_stack
from tests.harness import failure

ROOT = Path(__file__).resolve().parents[2]
LAST_LINES = 30
"""So many of a replica's log are shown when a test fails."""
T = TypeVar("T")


def eventually(check: Callable[[], T | None], timeout: float, what: str, every: float = 0.2) -> T:
    """The first true value of ``check``; AssertionError, naming ``what`` was waited for, at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        if value := check():
            return value
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(every)


def run(*words: str, timeout: float = 60) -> str:
    """Run a command; its standard output. Raises AssertionError with everything it said when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class RunningStack:
    """One stack and the image of the test tools."""

    name: str
    stack_file: Path
    test_image: str

    def command(self, name: str, *words: str) -> list[str]:
        """The words of an `smd` command on this stack."""
        return [str(ROOT / "smd"), name, "--stack", str(self.stack_file), *words]

    def smd(self, *words: str, timeout: float = 600) -> str:
        """Run the launcher, as a user does."""
        return run(*self.command(*words), timeout=timeout)

    def status(self) -> dict[str, Any]:
        """What ``smd status --json`` prints, without a process for each look."""
        return status_data(Place(self.stack_file))

    def wait_whole(self, timeout: float = 150) -> dict[str, Any]:
        """Wait until nothing is missing, and no pool of a fixed size has one too many; the status then."""
        numbers = wanted_numbers(load_stack(self.stack_file))
        wanted = {role: number for role, number in numbers.items() if role is not Role.GATEWAY}

        def whole() -> dict[str, Any] | None:
            status = self.status()
            there = Counter(one["role"] for one in status["replicas"])
            return status if status["whole"] and all(there[role] == wanted[role] for role in wanted) else None

        try:
            return eventually(whole, timeout, "the stack is whole", every=1)
        except AssertionError as e:
            now, load = self.status()["problems"], os.getloadavg()[0]
            raise AssertionError(f"{e}; now: {now}; load of the machine: {load:.1f}") from None

    def replicas(self, role: str) -> list[dict[str, Any]]:
        """The replicas of one role."""
        return [one for one in self.status()["replicas"] if one["role"] == role]

    def active(self, role: str) -> dict[str, Any]:
        """The replica that holds the service address of ``role``."""
        return next(one for one in self.replicas(role) if one.get("active"))

    def service_address(self, role: str) -> str:
        """The service address of ``role``."""
        return str(self.status()["service_addresses"][role]["address"])

    def events(self) -> list[dict[str, Any]]:
        """The newest of the audit trail (``smd events``), in order of time."""
        trail: list[dict[str, Any]] = json.loads(self.smd("events", "--json", "-n", "500"))
        return trail

    def gateway_server(self, gateway: str, path: str) -> str:
        """What the server of the gateway container answers to GET ``path`` on its control socket."""
        program = (
            "import http.client, socket\n"
            "connection = http.client.HTTPConnection('gateway')\n"
            "connection.sock = socket.socket(socket.AF_UNIX)\n"
            "connection.sock.connect('/run/smd/gateway.sock')\n"
            f"connection.request('GET', {path!r})\n"
            "print(connection.getresponse().read().decode())\n"
        )
        return run("docker", "exec", gateway, "/usr/bin/python3", "-c", program)

    def containers(self) -> list[dict[str, Any]]:
        """What the engine says of every container of the stack, running or not."""
        label = f"label=smd.stack={self.name}"
        found = run("docker", "ps", "-aq", "--no-trunc", "--filter", label).split()
        described: list[dict[str, Any]] = json.loads(run("docker", "inspect", *found))
        return described

    def last_lines(self) -> dict[str, str]:
        """What each replica's log ends with, by name: for the reader of a failed test."""
        label = f"label=smd.stack={self.name}"
        names = run("docker", "ps", "-a", "--filter", label, "--format", "{{.Names}}", timeout=10).split()
        return {name: _log_of(name) for name in sorted(names)}

    @property
    def network(self) -> str:
        """The name of the stack's Docker network."""
        return f"smd-{self.name}"

    def client_address(self, index: int) -> str:
        """An address left for test clients, counted from the end (`smd call` takes the first ones)."""
        network = json.loads(run("docker", "network", "inspect", self.network))[0]
        subnet: str = network["IPAM"]["Config"][0]["Subnet"]
        return f"{subnet.rsplit('.', 1)[0]}.{253 - index}"

    def client_prefix(self, name: str, address: str, *mounts: Path) -> list[str]:
        """The words that run a command of the test image in the stack's network."""
        words = ["docker", "run", "--rm", "-i", "--init", "--name", f"{self.name}-{name}"]
        words += ["--network", self.network, "--ip", address, "--shm-size", "512m"]
        for mount in mounts:
            words += ["--volume", f"{mount}:{mount}"]
        return [*words, self.test_image]


def _log_of(container: str) -> str:
    """The end of a container's log, or why there is none."""
    words = ["docker", "logs", "--tail", str(LAST_LINES), container]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10, check=False
    )
    return done.stdout


@contextlib.contextmanager
def brought_up(name: str, stack_file: Path, text: str, test_image: str) -> Iterator[RunningStack]:
    """The stack of the stack file ``text``; at the end it is taken down (SMD_E2E_KEEP=yes: it is not)."""
    stack_file.parent.mkdir(parents=True, exist_ok=True)
    stack_file.write_text(text)
    running = RunningStack(name, stack_file, test_image)
    try:
        try:
            print(running.smd("up", timeout=1200))
        except AssertionError as e:
            e.add_note(failure.text(running))
            raise
        yield running
    finally:
        if os.environ.get("SMD_E2E_KEEP") != "yes":
            running.smd("down")
