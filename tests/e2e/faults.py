"""What can break in a replica that has a service address, done for real."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.running import RunningStack, eventually
from tests.e2e.sip_probe import SipProbe


@dataclass(frozen=True, slots=True)
class Replica:
    """The container that is to be broken."""

    container: str
    network: str
    """The stack's Docker network."""

    def processes(self, name: str) -> list[int]:
        """Process ids, on this host, of the processes of that name in it."""
        listed = _docker("top", self.container, "-eo", "pid,comm").splitlines()[1:]
        return [int(pid) for pid, command in (line.split(None, 1) for line in listed) if command == name]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of that name."""
        found = self.processes(name)
        if not found:
            raise AssertionError(f"no process {name} runs in {self.container}")
        for pid in found:
            os.kill(pid, number)


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise AssertionError(f"docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _agent(replica: Replica, number: signal.Signals) -> None:
    """The agent is the one Python process with the command line of ``smd node``."""
    listed = _docker("top", replica.container, "-eo", "pid,args").splitlines()[1:]
    found = [int(line.split(None, 1)[0]) for line in listed if "sipmediadeploy" in line and "node" in line]
    if not found:
        raise AssertionError(f"no agent runs in {replica.container}")
    for pid in found:
        os.kill(pid, number)


def _cut(replica: Replica, chain: str) -> None:
    """Drop all that comes in, or goes out, in the container's own network namespace."""
    pid = _docker("inspect", "--format", "{{.State.Pid}}", replica.container).strip()
    way = "iifname" if chain == "input" else "oifname"
    hook = f"type filter hook {chain} priority -300;\n"
    rules = f'table ip smd_cut {{\nchain cut {{\n{hook}{way} "eth0" drop\n}}\n}}\n'
    words = ["nsenter", "-t", pid, "-n", "nft", "-f", "-"]
    done = subprocess.run(words, input=rules, text=True, check=False, capture_output=True)
    if done.returncode:
        raise AssertionError(f"nft in {replica.container}: {done.stderr.strip()}")


FAULTS: dict[str, Callable[[Replica], object]] = {
    "kamailio-killed": lambda r: r.signal("kamailio", signal.SIGKILL),
    "kamailio-stopped": lambda r: r.signal("kamailio", signal.SIGSTOP),
    "container-killed": lambda r: _docker("kill", r.container),
    "container-paused": lambda r: _docker("pause", r.container),
    "container-removed": lambda r: _docker("rm", "-f", r.container),
    "network-cut": lambda r: _docker("network", "disconnect", "-f", r.network, r.container),
    "network-cut-in": lambda r: _cut(r, "input"),
    "network-cut-out": lambda r: _cut(r, "output"),
    "agent-killed": lambda r: _agent(r, signal.SIGKILL),
    "agent-stopped": lambda r: _agent(r, signal.SIGSTOP),
    "keepalived-killed": lambda r: r.signal("keepalived", signal.SIGKILL),
    "keepalived-stopped": lambda r: r.signal("keepalived", signal.SIGSTOP),
}
"""On the active Kamailio's replica."""


def mend(name: str, replica: Replica) -> None:
    """Put right by hand what would stay broken, as an operator would."""
    if name == "container-paused":
        subprocess.run(["docker", "unpause", replica.container], check=False, capture_output=True)


def gap_after(stack: RunningStack, name: str, watched_s: float) -> float:
    """Break the active Kamailio's replica; the longest time, in seconds, between two answers to a caller.

    It is watched for ``watched_s``: a second gap would show, too.
    """
    broken = Replica(str(stack.active("kamailio")["id"]), stack.network)
    with SipProbe(stack.service_address("kamailio")) as probe:
        eventually(lambda: probe.answered > 20, 10, "the service address answers")
        FAULTS[name](broken)
        time.sleep(watched_s)
        answered = probe.answered
        eventually(lambda: probe.answered > answered + 5, 15, f"the service address answers after {name}")
        gap = probe.longest_gap_s()
    mend(name, broken)
    return gap
