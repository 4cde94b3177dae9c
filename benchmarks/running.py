"""A stack of the benchmark's own: brought up, measured and taken down."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from benchmarks.measure import Cgroup, cgroup_of
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import addresses, labels
from sipmediadeploy.providers.docker.engine import ensure_engine

ROOT = Path(__file__).resolve().parents[1]
NAME = "bench"
CALLS = 8
_STACK = f"""\
name: {NAME}
domain: bench.example.org
pools:
  kamailio: {{replicas: 1}}
  coturn: {{replicas: 1}}
  scaler: {{replicas: 1}}
  gateway: {{min: 2, max: 2, calls: {CALLS}, spare: 0, limits: {{cpus: 2, memory_mib: 2048}}}}
"""


class NoStack(Exception):
    """The stack did not come up; the text says why."""


def tell(text: str) -> None:
    """Say how it goes, beside what is printed at the end."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway replica."""

    container: str
    address: str

    def cgroup(self) -> Cgroup:
        """Its accounts. Raises NoCgroup, OSError."""
        return cgroup_of(first_pid(self.container))


@dataclass(frozen=True, slots=True)
class BenchStack:
    """A running stack: one gateway is measured, the other has the far ends of calls that would be alone."""

    file: Path
    """The stack file."""
    image: str
    page: str
    """Where browsers find the rooms of the demo conference; empty when there is none."""
    measured: Gateway
    other: Gateway

    def terminal(self, index: int, gateway: Gateway, room: str, *words: str) -> list[str]:
        """The command of a test terminal in a container of its own."""
        subnet = IPv4Network(f"{gateway.address}/24", strict=False)
        address = str(subnet[addresses.CLIENT_HOSTS[index]])
        return [
            *_run(self.image, labels.network_name(NAME), "--ip", address),
            *("-m", "sipmediadeploy.gateway.testcall", room, "--to", gateway.address, *words),
        ]

    def plain(self, *words: str) -> list[str]:
        """The command of the plain pipeline, with the same libraries."""
        return [
            *_run(self.image, "none", "--volume", f"{ROOT}/benchmarks:/opt/bench/benchmarks:ro"),
            "-m",
            "benchmarks.plain",
            *words,
        ]


@contextlib.contextmanager
def idle_stack(directory: Path) -> Iterator[Path]:
    """A stack of all defaults and nothing else on it; its stack file. Taken down at the end.

    Raises:
        NoStack: it did not come up.
    """
    with _up(directory, f"name: {NAME}\ndomain: bench.example.org\n") as file:
        yield file


@contextlib.contextmanager
def bench_stack(directory: Path, conference: str = "") -> Iterator[BenchStack]:
    """Bring it up with its files in ``directory``, and take it down at the end, whatever happens.

    ``conference`` is YAML for the stack file; without it the demo conference is called.

    Raises:
        NoStack: it did not come up.
    """
    with _up(directory, _STACK + conference) as file:
        status: dict[str, Any] = smd_json(file, "status", "--json")
        gateways = _gateways(status)
        image = _docker("inspect", "--format", "{{.Config.Image}}", gateways[0].container)
        yield BenchStack(file, image, str(status["page"] or "").rpartition("/")[0], *gateways)


@contextlib.contextmanager
def _up(directory: Path, stack: str) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "stack.yaml"
    file.write_text(stack)
    try:
        ensure_engine(tell)
    except ProviderError as e:
        raise NoStack(str(e)) from None
    try:
        # A stack that was left behind is perhaps of another version, and about to be replaced.
        for command in ("init", "down", "up"):
            if _smd(command, file).returncode:
                raise NoStack(f"smd {command} failed")
        yield file
    finally:
        _smd("down", file)


def smd_json(file: Path, command: str, *words: str, parse: bool = True) -> Any:
    """What an ``smd`` command printed, as JSON; without ``parse`` its text.

    Raises:
        NoStack: it failed.
    """
    done = _smd(command, file, *words, capture=True)
    if done.returncode:
        raise NoStack(f"smd {command} failed")
    return json.loads(done.stdout) if parse else done.stdout.strip()


def _gateways(status: dict[str, Any]) -> list[Gateway]:
    found = [
        Gateway(labels.container_name(NAME, one["name"].removeprefix(f"{NAME}-")), one["address"])
        for one in status["replicas"]
        if one["role"] == "gateway" and one["state"] == "ready"
    ]
    if len(found) != 2:
        raise NoStack(f"{len(found)} of 2 gateways are ready")
    return found


def _smd(command: str, file: Path, *words: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ``smd``; what it says goes to standard error: standard output is for the figures."""
    words = (str(ROOT / "smd"), command, "--stack", str(file), *words)
    return subprocess.run(words, stdout=subprocess.PIPE if capture else sys.stderr, text=True, check=False)


def _run(image: str, network: str, *more: str) -> list[str]:
    words = ["docker", "run", "--rm", "--init", "--network", network, "--cap-drop", "ALL", *more]
    words += ["--label", f"{labels.STACK}={NAME}", "--label", f"{labels.KIND}=call"]
    for variable in (
        "PYTHONPATH=/opt/smd/site-packages:/opt/bench",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
    ):
        words += ["--env", variable]
    return [*words, "--entrypoint", "/usr/bin/python3", image]


def first_pid(container: str) -> int:
    """The pid, on this host, of a container's first process. Raises NoStack."""
    return int(_docker("inspect", "--format", "{{.State.Pid}}", container))


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoStack(f"docker {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def p99(values: Sequence[float]) -> float:
    """The 99th percentile by nearest rank: of fewer than a hundred the largest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]
