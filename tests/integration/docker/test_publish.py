"""A published stack is reached from other hosts, this host and inside, and unpublished without a trace.

Another host is a network namespace behind a veth pair; what answers in the stack says whom it sees asking.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.addresses import rtp_ports, service_address, slot_address
from sipmediadeploy.providers.docker.network import choose_subnet, networks_in_use
from sipmediadeploy.providers.docker.publish import ensure_published, remove_published
from sipmediadeploy.stack import Role
from tests.integration.docker.conftest import Trial

pytestmark = pytest.mark.integration

ANSWER = """
import select, socket, sys, threading
def udp(s, address):
    while True:
        _, peer = s.recvfrom(100)
        s.sendto(f"{address} {peer[0]} {peer[1]}".encode(), peer)
def tcp(s, address):
    while True:
        c, peer = s.accept()
        c.sendall(f"{address} {peer[0]} {peer[1]}".encode())
        c.close()
for one in sys.argv[1:]:
    kind, address, port = one.split(",")
    if kind == "udp":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, int(port)))
    else:
        s = socket.create_server((address, int(port)))
    threading.Thread(target={"udp": udp, "tcp": tcp}[kind], args=(s, address)).start()
print("ready", flush=True)
"""

ASK = """
import socket, sys
kind, address, port, source = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(2)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port may be in TIME_WAIT from the one before
s.bind(("", source))
s.connect((address, port))
if kind == "udp":
    s.send(b"?")
print(s.recv(100).decode())
"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another host: its namespace, its address, and this host's address on the wire to it."""

    namespace: str
    address: IPv4Address
    here: IPv4Address


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, f"{command[:5]}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def neighbour(trial: Trial) -> Iterator[Neighbour]:
    subnet: IPv4Network = choose_subnet(None, networks_in_use(trial.client))
    name = trial.stack.name
    here, there = subnet[1], subnet[2]
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        run("ip", "addr", "add", f"{here}/24", "dev", f"{name}a")
        run("ip", "link", "set", f"{name}a", "up")
        run("ip", "-n", name, "addr", "add", f"{there}/24", "dev", f"{name}b")
        run("ip", "-n", name, "link", "set", f"{name}b", "up")
        run("ip", "-n", name, "route", "add", "default", "via", str(here))
        yield Neighbour(name, there, here)
    finally:
        run("ip", "netns", "del", name)


@pytest.fixture
def published(trial: Trial, neighbour: Neighbour) -> Trial:
    stack = trial.stack.model_copy(update={"publish": neighbour.here})
    ensure_published(trial.client, stack, trial.network, trial.version)
    return replace(trial, stack=stack)


def start_answering(trial: Trial, name: str, address: IPv4Address, *places: tuple[str, int]) -> str:
    """A container at ``address`` that answers on ``places`` with its address and who it sees; its id."""
    api = trial.client.api
    network = labels.network_name(trial.stack.name)
    container = api.create_container(
        labels.image_name(Role.SCALER, trial.version),
        command=["python3", "-c", ANSWER, *(f"{kind},{address},{port}" for kind, port in places)],
        name=labels.container_name(trial.stack.name, name),
        labels={labels.STACK: trial.stack.name},
        host_config=api.create_host_config(),
        networking_config={
            "EndpointsConfig": {network: api.create_endpoint_config(ipv4_address=str(address))}
        },
    )
    api.start(container)
    for line in api.logs(container, stream=True, follow=True):
        assert line == b"ready\n"
        break
    return str(container["Id"])


def ask_from(namespace: str | None, kind: str, address: IPv4Address, port: int, source: int = 0) -> list[str]:
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    return run(*prefix, sys.executable, "-c", ASK, kind, str(address), str(port), str(source)).split()


def tables() -> str:
    return run("nft", "list", "tables") + run("iptables", "-S", "DOCKER-USER")


def test_the_stack_is_reached_through_the_published_address(published: Trial, neighbour: Neighbour) -> None:
    subnet = published.network.subnet
    sip = service_address(subnet, Role.KAMAILIO)
    turn = service_address(subnet, Role.COTURN)
    demo = slot_address(subnet, Role.CONFERENCE_DEMO, 0)
    assert sip is not None
    assert turn is not None
    rtp, _ = rtp_ports(published.stack, 3)
    gateway = slot_address(subnet, Role.GATEWAY, 3)
    start_answering(published, "sip", sip, ("udp", 5060), ("tcp", 5060))
    start_answering(published, "turn", turn, ("udp", 3478), ("tcp", 3478), ("udp", 49_170))
    start_answering(published, "demo", demo, ("tcp", 443), ("udp", 40_005))
    inside = start_answering(published, "gateway", gateway, ("udp", rtp))
    for kind, port, target in (
        ("udp", 5060, sip),
        ("tcp", 5060, sip),
        ("udp", 3478, turn),
        ("tcp", 3478, turn),
        ("udp", 49_170, turn),
        ("tcp", 443, demo),
        ("udp", 40_005, demo),
        ("udp", rtp, gateway),
    ):
        # From another host, whose address and port the stack sees as they are.
        answer = ask_from(neighbour.namespace, kind, neighbour.here, port, 40_123)
        assert answer == [str(target), str(neighbour.address), "40123"]
        # From this host.
        assert ask_from(None, kind, neighbour.here, port)[:2] == [str(target), str(neighbour.here)]
    # From inside the stack: it seems to come from the published address, with the port that was sent from.
    ask = ["python3", "-c", ASK, "udp", str(neighbour.here), "40005", str(rtp + 2)]
    result = published.client.containers.get(inside).exec_run(ask)
    assert result.output == f"{demo} {neighbour.here} {rtp + 2}\n".encode()


def test_what_a_gateway_sends_first_leaves_from_its_published_port(
    published: Trial, neighbour: Neighbour
) -> None:
    rtp, _ = rtp_ports(published.stack, 0)
    gateway = slot_address(published.network.subnet, Role.GATEWAY, 0)
    inside = start_answering(published, "gateway", gateway, ("udp", rtp + 1))
    listen = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); "
        "s.bind(('', 7000)); print('ready', flush=True); print(*s.recvfrom(9)[1])"
    )
    command = ["ip", "netns", "exec", neighbour.namespace, sys.executable, "-c", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        send = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
            f"s.bind(('', {rtp})); s.sendto(b'x', ('{neighbour.address}', 7000))"
        )
        published.client.containers.get(inside).exec_run(["python3", "-c", send])
        assert listener.stdout.readline().split() == [str(neighbour.here), str(rtp)]


def test_publishing_twice_changes_nothing_and_unpublishing_leaves_nothing(published: Trial) -> None:
    name = labels.network_name(published.stack.name)
    helper = labels.container_name(published.stack.name, "publish")
    before = published.client.api.inspect_container(helper)["Id"]
    ensure_published(published.client, published.stack, published.network, published.version)
    assert published.client.api.inspect_container(helper)["Id"] == before
    assert tables().count(name) >= 2
    remove_published(published.client, published.stack.name)
    assert name not in tables()
    remove_published(published.client, published.stack.name)


def test_the_map_of_a_killed_helper_is_removed_too(published: Trial) -> None:
    name = labels.network_name(published.stack.name)
    published.client.api.kill(labels.container_name(published.stack.name, "publish"))
    assert name in tables()
    remove_published(published.client, published.stack.name)
    assert name not in tables()


def test_the_helper_has_one_capability(published: Trial) -> None:
    helper = labels.container_name(published.stack.name, "publish")
    confined = published.client.api.inspect_container(helper)["HostConfig"]
    assert (confined["CapDrop"], confined["CapAdd"]) == (["ALL"], ["NET_ADMIN"])
    assert confined["NetworkMode"] == "host"
    assert not confined["Privileged"]
    assert not confined["Binds"]


def test_an_address_of_another_host_is_refused(trial: Trial, neighbour: Neighbour) -> None:
    stack = trial.stack.model_copy(update={"publish": neighbour.address})
    with pytest.raises(ProviderError, match=f"{neighbour.address} is not an address of this host"):
        ensure_published(trial.client, stack, trial.network, trial.version)
    assert labels.network_name(trial.stack.name) not in tables()


def test_an_address_that_another_stack_publishes_is_refused(published: Trial) -> None:
    other = published.stack.model_copy(update={"name": f"{published.stack.name}-b"})
    with pytest.raises(ProviderError, match=f"is published by stack {published.stack.name};"):
        ensure_published(published.client, other, published.network, published.version)
