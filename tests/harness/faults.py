"""What can break in a stack, done for real."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.harness.running import run

SERVICES = {"kamailio": "kamailio", "coturn": "turnserver"}
"""The process that does a role's job."""
SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Replica:
    """The container that is to be broken."""

    container: str
    role: str
    network: str
    """The stack's Docker network."""

    def send(self, number: signal.Signals, name: str = "") -> None:
        """Send a signal to the role's service, or to all processes of that name."""
        name = name or SERVICES[self.role]
        listed = run("docker", "top", self.container, "-eo", "pid,comm").splitlines()[1:]
        found = [int(pid) for pid, command in (line.split(None, 1) for line in listed) if command == name]
        if not found:
            raise AssertionError(f"no process {name} runs in {self.container}")
        for pid in found:
            os.kill(pid, number)

    def send_to_agent(self, number: signal.Signals) -> None:
        """Send a signal to the agent: the one process of ``sipmediadeploy.node``."""
        listed = run("docker", "top", self.container, "-eo", "pid,args").splitlines()[1:]
        found = [
            int(line.split(None, 1)[0]) for line in listed if "sipmediadeploy" in line and "node" in line
        ]
        if not found:
            raise AssertionError(f"no agent runs in {self.container}")
        for pid in found:
            os.kill(pid, number)

    def cut(self, chain: str) -> None:
        """Drop all that comes in, or goes out, in the container's own network namespace."""
        way = "iifname" if chain == "input" else "oifname"
        hook = f"type filter hook {chain} priority -300;\n"
        rules = f'table ip smd_cut {{\nchain cut {{\n{hook}{way} "eth0" drop\n}}\n}}\n'
        done = subprocess.run(
            [*self._enter("-n"), "nft", "-f", "-"], input=rules, text=True, check=False, capture_output=True
        )
        if done.returncode:
            raise AssertionError(f"nft in {self.container}: {done.stderr.strip()}")

    def disconnect(self) -> None:
        """Pull its cable."""
        run("docker", "network", "disconnect", "-f", self.network, self.container)

    def cut_off_from_the_engine(self) -> None:
        """Let a scaler reach the Docker Engine no more."""
        run(*self._enter("-m"), "mount", "--bind", "/dev/null", SOCKET)

    def _enter(self, *namespaces: str) -> list[str]:
        pid = run("docker", "inspect", "--format", "{{.State.Pid}}", self.container).strip()
        return ["nsenter", "-t", pid, *namespaces]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, of the replica that is active in its pool, or leads."""

    role: str
    breaks: Callable[[Replica], object]
    mend: Callable[[Replica], object] | None = None
    """Puts right by hand what would stay broken, as an operator would."""
    scalers_dead: bool = False
    """No scaler runs from before the fault until it is mended."""
    is_replaced: bool = False
    """It looks well for a while, and is of no use: the next fault waits until it is gone."""
    is_silent: bool = False
    """It runs and says nothing: the scaler leaves it a minute before it replaces it."""
    moves: bool = False
    """The service address must be another replica's afterwards."""
    spares_service: bool = False
    """The role's service goes on."""


def _unpause(replica: Replica) -> None:
    subprocess.run(["docker", "unpause", replica.container], check=False, capture_output=True)


def _kill(replica: Replica) -> None:
    run("docker", "kill", replica.container)


_OF_A_REPLICA: dict[str, Fault] = {
    "killed": Fault("", lambda r: r.send(signal.SIGKILL)),
    "stopped": Fault("", lambda r: r.send(signal.SIGSTOP)),
    "container-killed": Fault("", _kill, moves=True),
    "container-paused": Fault("", lambda r: run("docker", "pause", r.container), _unpause, moves=True),
    "container-removed": Fault("", lambda r: run("docker", "rm", "-f", r.container), moves=True),
    "network-cut": Fault("", Replica.disconnect, is_silent=True, moves=True),
    "network-cut-in": Fault("", lambda r: r.cut("input"), is_silent=True, moves=True),
    "network-cut-out": Fault("", lambda r: r.cut("output"), is_silent=True, moves=True),
    "agent-killed": Fault("", lambda r: r.send_to_agent(signal.SIGKILL), spares_service=True),
    "agent-stopped": Fault(
        "", lambda r: r.send_to_agent(signal.SIGSTOP), is_silent=True, spares_service=True
    ),
    "keepalived-killed": Fault("", lambda r: r.send(signal.SIGKILL, "keepalived")),
    "keepalived-stopped": Fault("", lambda r: r.send(signal.SIGSTOP, "keepalived")),
    "container-killed-without-scalers": Fault("", _kill, scalers_dead=True, moves=True),
}

FAULTS: dict[str, Fault] = {
    f"{role}-{name}": replace(fault, role=role) for role in SERVICES for name, fault in _OF_A_REPLICA.items()
} | {
    "leader-killed": Fault("scaler", _kill),
    "leader-paused": Fault("scaler", lambda r: run("docker", "pause", r.container), _unpause),
    "leader-cut-off": Fault("scaler", lambda r: r.cut_off_from_the_engine(), is_replaced=True),
}


def at_once(names: Sequence[str]) -> list[list[str]]:
    """The faults ``names``, those of the same kind of Kamailio's and of Coturn's replica together.

    Nothing of the one heals by the other, so both can be seen in one run.
    """
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.removeprefix("kamailio-").removeprefix("coturn-"), []).append(name)
    return list(kinds.values())
