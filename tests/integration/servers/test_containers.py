"""The playbook for containers: hosts that run the roles' images, which they pull from a registry."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import docker
import pytest

from sipmediadeploy.images.build import ensure_images
from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.secrets import turn_secret
from sipmediadeploy.protocol.sip_options import ProbeError, sip_options
from tests.harness.playbook import COTURN, GATEWAY, KAMAILIO, LAST_BYTES, STANDBY, program
from tests.harness.registry import login, running_registry
from tests.harness.waiting import until, until_async
from tests.integration.servers.conftest import Stack, plain_hosts
from tests.integration.servers.host import Host
from tests.integration.servers.test_playbook import master

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]
PLAYBOOK = "containers.yml"
ROLES = [f"--role={role}" for role in ("kamailio", "coturn", "gateway", "conference-demo")]
INSIDE = "docker exec smd-replica"


@pytest.fixture(scope="module")
def stack(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The hosts as the playbook has made them, from images that were pushed to a registry."""
    directory = tmp_path_factory.mktemp("operator")
    ensure_images(engine, print)
    # The hosts have no address of this machine in common but their bridge's.
    with running_registry(engine, "0.0.0.0") as port:
        here = f"127.0.0.1:{port}"
        (directory / "config.json").write_text(json.dumps(login(here)))
        subprocess.run(
            [program("smd"), "images", "push", f"{here}/sip", *ROLES],
            env={**os.environ, "DOCKER_CONFIG": str(directory)},
            check=True,
            timeout=600,
        )
        with plain_hosts(engine, directory, run_containers=True) as made:
            registry = f"{made.prefix}.1:{port}"
            made.write_inventory(smd_registry=f"{registry}/sip")
            for host in made.hosts.values():
                host.write("/etc/docker/daemon.json", json.dumps({"insecure-registries": [registry]}))
                host.write("/root/.docker/config.json", json.dumps(login(registry)), 0o600)
            played = made.play(PLAYBOOK)
            assert set(played.counted("failed").values()) == {0}
            yield made


def status(host: Host) -> str:
    return host.run(f"{INSIDE} smd node --status --wait 90", check=False).strip()


def test_the_second_run_changes_nothing(stack: Stack) -> None:
    again = stack.play(PLAYBOOK)
    assert again.counted("changed") == dict.fromkeys(again.counted("ok"), 0)


async def test_each_role_does_its_work(stack: Stack) -> None:
    addresses = {pool: IPv4Address(address) for pool, address in stack.service_addresses.items()}
    await sip_options(addresses["kamailio"], 5060, timeout_s=3)
    await turn.allocate(addresses["coturn"], 3478, turn_secret(master(stack)), timeout_s=3)
    for name in LAST_BYTES:
        assert ": ready" in status(stack.hosts[name])


def test_a_call_through_the_service_address_has_sound_and_picture(stack: Stack) -> None:
    terminal = (
        "docker exec -e PYTHONPATH=/opt/smd/site-packages -e PYTHONDONTWRITEBYTECODE=1 smd-replica"
        " python3 -m sipmediadeploy.gateway.testcall room"
        f" --to {stack.service_addresses['kamailio']}:5060 --json"
    )
    gateway = stack.hosts[GATEWAY]
    other = "--seconds 40 --name other --tone 660 --colour ff8c00 --no-decode"
    gateway.run(f"({terminal} {other} >/tmp/other.log 2>&1 &)")
    output = gateway.run(f"{terminal} --seconds 15 2>&1", check=False)
    said = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert said, output[-2000:]
    assert said[-1].get("verdict") == "ok", f"{said[-1]}\n{gateway.run('tail -n 5 /tmp/other.log')}"


async def test_the_service_address_leaves_a_host_whose_container_is_killed(stack: Stack) -> None:
    address = IPv4Address(stack.service_addresses["kamailio"])
    first, second = sorted(
        (stack.hosts[name] for name in (KAMAILIO, STANDBY)), key=lambda host: ", active" not in status(host)
    )
    before = first.run("docker inspect -f '{{.Id}}' smd-replica")
    first.run("docker kill smd-replica")
    began = time.monotonic()

    async def answers() -> bool:
        try:
            await sip_options(address, 5060, timeout_s=1)
        except ProbeError:
            return False
        return True

    await until_async("the service address answers", answers, 20)
    print(f"\nkilled, answers again after {time.monotonic() - began:.1f} s")
    await until(f"{second.name} is active", lambda: ", active" in status(second), 20)
    await until(
        f"{first.name} has a new container",
        lambda: first.run("docker inspect -f '{{.Id}}' smd-replica", check=False) not in ("", before),
    )
    await until(f"{first.name} is ready", lambda: ": ready" in status(first), 60)
    held = [host.name for host in (first, second) if f" {address}/" in host.run("ip -4 -o address")]
    assert held == [second.name]


def test_secrets_stay_with_root_and_out_of_the_journal(stack: Stack) -> None:
    host = stack.hosts[COTURN]
    assert host.run("stat -c '%a %U' /etc/smd/replica.yaml /etc/smd").split() == [
        "600",
        "root",
        "700",
        "root",
    ]
    journal = host.run("journalctl --no-pager -o cat")
    for secret in (master(stack), turn_secret(master(stack))):
        assert secret not in journal
        assert secret not in host.run("docker inspect smd-replica")


def test_a_container_has_no_more_than_its_role_needs(stack: Stack) -> None:
    assert "CapBnd:\t00000000000000e3" in stack.hosts[GATEWAY].run(f"{INSIDE} cat /proc/1/status")
    assert "CapBnd:\t00000000000030e3" in stack.hosts[KAMAILIO].run(f"{INSIDE} cat /proc/1/status")
