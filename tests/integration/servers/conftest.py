"""A fleet of hosts that were plain Debian servers, and that the playbook made into a stack."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import yaml
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.engine import connect
from tests.integration.servers.host import Host, NoHost, ensure_image, start_host

ANSIBLE = Path(__file__).resolve().parents[3] / "deploy" / "ansible"
KAMAILIO, STANDBY, COTURN, GATEWAY, CONFERENCE = (
    *("kamailio-0", "kamailio-1", "coturn-0", "gateway-0"),
    "conference-0",
)
LAST_BYTES = {KAMAILIO: 16, STANDBY: 17, COTURN: 32, GATEWAY: 64, CONFERENCE: 9}
GROUPS = {
    "kamailio": [KAMAILIO, STANDBY],
    "coturn": [COTURN],
    "gateway": [GATEWAY],
    "conference_demo": [CONFERENCE],
}
_PLAYBOOK_LIMIT_S = 2400
SSH = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


@dataclass(frozen=True, slots=True)
class Played:
    """What one run of the playbook did."""

    output: str

    def counted(self, what: str) -> dict[str, int]:
        """By host: how often its recap says that ``what`` ('changed', 'failed') happened."""
        lines = self.output.split("PLAY RECAP", 1)[1].splitlines()[1:]
        found = (re.match(rf"(\S+)\s*:.*\b{what}=(\d+)", line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}


@dataclass(frozen=True, slots=True)
class Stack:
    """The hosts and what the operator has."""

    directory: Path
    prefix: str
    """The first three bytes of every address."""
    hosts: dict[str, Host]

    @property
    def service_addresses(self) -> dict[str, str]:
        return {"kamailio": f"{self.prefix}.2", "coturn": f"{self.prefix}.3"}

    def play(self) -> Played:
        """Run the playbook on all hosts.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [program("ansible-playbook"), "-i", str(self.directory / "inventory.yml"), "site.yml"],
            cwd=ANSIBLE,
            env={**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_PLAYBOOK_LIMIT_S,
        )
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
        return Played(done.stdout)


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    try:
        connect()
    except ProviderError as e:
        pytest.skip(str(e))
    return docker.DockerClient.from_env(timeout=600)


@pytest.fixture(scope="session")
def plain(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The hosts as they are before anything was done to them, and a stack file, secrets and an inventory."""
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed (package openssh-client)")
    directory = tmp_path_factory.mktemp("operator")
    name = f"smd-servers-{secrets.token_hex(2)}"
    key = make_key(directory)
    subprocess.run([program("smd"), "init", "--name", "fixed"], cwd=directory, check=True)
    prefix = make_network(engine, name)
    hosts: dict[str, Host] = {}
    try:
        image = ensure_image(engine)
        for host, last in LAST_BYTES.items():
            hosts[host] = start_host(
                engine,
                image,
                name,
                f"{name}-{host}",
                f"{prefix}.{last}",
                key.with_suffix(".pub").read_text(),
            )
        stack = Stack(directory, prefix, hosts)
        (directory / "inventory.yml").write_text(yaml.safe_dump(_inventory(stack, key)))
        yield stack
    except NoHost as e:
        pytest.skip(str(e))
    finally:
        for container in engine.containers.list(all=True, filters={"name": name}):
            container.remove(force=True, v=True)
        engine.networks.get(name).remove()


@pytest.fixture(scope="session")
def stack(plain: Stack) -> Stack:
    """The hosts as the playbook has made them."""
    played = plain.play()
    assert set(played.counted("failed").values()) == {0}
    return plain


def make_key(directory: Path) -> Path:
    """An operator's SSH key; beside it is the public one."""
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def make_network(engine: docker.DockerClient, name: str) -> str:
    """A network of its own; the first three bytes of its addresses."""
    for third in range(40, 60):
        pool = IPAMPool(subnet=f"100.66.{third}.0/24", gateway=f"100.66.{third}.1")
        try:
            engine.networks.create(name, ipam=IPAMConfig(pool_configs=[pool]))
        except APIError:  # others have it
            continue
        return f"100.66.{third}"
    raise AssertionError("no network of 100.66.40.0/24 to 100.66.59.0/24 is free")


def _inventory(stack: Stack, key: Path) -> dict[str, object]:
    variables = {
        "ansible_user": "debian",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": SSH,
        "common_smd": program("smd"),
        "common_stack_file": str(stack.directory / "stack.yaml"),
        "common_application": str(stack.directory / "application"),
        # Beside benchmarks and other tests everything takes long.
        "common_ready_s": 240,
        "smd_network": f"{stack.prefix}.0/24",
        "smd_service_addresses": stack.service_addresses,
    }
    children = {
        group: {"hosts": {name: {"ansible_host": stack.hosts[name].address} for name in names}}
        for group, names in GROUPS.items()
    }
    return {"all": {"vars": variables, "children": children}}


def program(name: str) -> str:
    """A program of the development environment."""
    return str(Path(sys.executable).with_name(name))
