"""Two keepalived with the rendered configuration on one bridge, in network namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.node.roles import keepalived
from sipmediadeploy.protocol.replica import KamailioService, ReplicaDocument, Vrrp

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("keepalived") is None, reason="keepalived is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

SUBNET = IPv4Network("172.30.222.0/24")
SERVICE = SUBNET[2]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Node:
    """One replica's keepalived in a namespace of its own."""

    def __init__(self, slot: int, bridge: str, directory: Path, mark: str) -> None:
        self.namespace = f"{mark}{slot}"
        self.health = directory / "health"
        self.address = SUBNET[16 + slot]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        run(
            "ip", "link", "add", f"v{self.namespace}", "type", "veth", "peer", "eth0", "netns", self.namespace
        )
        run("ip", "link", "set", f"v{self.namespace}", "netns", bridge)
        run("ip", "-n", bridge, "link", "set", f"v{self.namespace}", "master", "br0", "up")
        run("ip", "-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        run("ip", "-n", self.namespace, "ntable", "change", "name", "arp_cache", "dev", "eth0", "queue", "2")
        files = keepalived.render(document(slot), "eth0")
        config = files[keepalived.DIRECTORY / "keepalived.conf"].content
        (directory / "keepalived.conf").write_text(
            config.replace(str(keepalived.HEALTH_FILE), str(self.health))
        )
        self.says("0")

    def says(self, value: object) -> None:
        self.health.write_text(f"{value}\n")

    def start(self) -> None:
        d = self._directory
        with (d / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "keepalived", "--dont-fork", "--log-console",
                 "--no-syslog", "--vrrp", f"--use-file={d}/keepalived.conf", f"--pid={d}/a.pid",
                 f"--vrrp_pid={d}/b.pid"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def holds(self) -> bool:
        return f"{SERVICE}/" in run("ip", "-n", self.namespace, "-br", "addr", "show", "eth0")

    def kill(self) -> None:
        for pid in run("ip", "netns", "pids", self.namespace).split():
            os.kill(int(pid), 9)

    def remove(self) -> None:
        self.kill()
        if self._process is not None:
            self._process.wait()
        run("ip", "netns", "del", self.namespace)


def document(slot: int) -> ReplicaDocument:
    service = KamailioService(service_address=SERVICE, domain="sip.example.org", network=SUBNET)
    peers = tuple(SUBNET[16 + other] for other in range(16) if other != slot)
    return ReplicaDocument(
        stack="t", name=f"k{slot}", slot=slot, address=SUBNET[16 + slot], agent_token="-", service=service,
        vrrp=Vrrp(service_address=SERVICE, router_id=16, priority=200 - slot, peers=peers),
    )  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    mark = f"smdt{os.getpid() % 100000}"
    bridge = f"{mark}br"
    run("ip", "netns", "add", bridge)
    nodes: list[Node] = []
    try:
        run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", bridge, "link", "set", "br0", "up")
        for slot in (0, 1):
            nodes.append(Node(slot, bridge, tmp_path / str(slot), mark))
        first, second = nodes
        first.start()
        second.start()
        until(first.holds)
        first.says(keepalived.HOLDER)
        yield first, second
    finally:
        for node in nodes:
            node.remove()
        run("ip", "netns", "del", bridge)


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> float:
    """Seconds until ``condition``."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.promise(3)
def test_a_sick_holder_hands_over_and_gets_nothing_back(pair: tuple[Node, Node]) -> None:
    first, second = pair
    first.says(keepalived.RELEASE)
    took = until(second.holds)
    print(f"handed over in {took:.2f} s")
    second.says(keepalived.HOLDER)
    first.says(0)
    for _ in range(20):
        assert second.holds()
        assert not first.holds()
        time.sleep(0.05)


def test_a_drained_holder_keeps_the_address_until_the_other_one_has_it(pair: tuple[Node, Node]) -> None:
    first, second = pair
    first.says(keepalived.DRAINING)
    until(lambda: first.holds() != second.holds() and second.holds())


@pytest.mark.promise(3)
def test_a_killed_holder_is_replaced(pair: tuple[Node, Node]) -> None:
    first, second = pair
    first.kill()
    took = until(second.holds)
    print(f"taken over in {took:.2f} s")


def test_when_all_are_sick_one_still_holds_the_address(pair: tuple[Node, Node]) -> None:
    first, second = pair
    first.says(keepalived.RELEASE)
    second.says(keepalived.RELEASE)
    until(lambda: not first.holds() and not second.holds())
    first.says(keepalived.SICK)
    second.says(keepalived.SICK)
    until(lambda: first.holds() or second.holds())
