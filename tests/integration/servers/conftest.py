"""A fleet of hosts that were plain Debian servers, and that the playbook made into a stack."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.engine import connect
from tests.harness.playbook import LAST_BYTES, SERVICE_BYTES, Played, play, write_inventory, write_stack
from tests.integration.servers.host import Host, NoHost, ensure_image, start_host


@dataclass(frozen=True, slots=True)
class Stack:
    """The hosts and what the operator has."""

    directory: Path
    prefix: str
    """The first three bytes of every address."""
    hosts: dict[str, Host]

    @property
    def service_addresses(self) -> dict[str, str]:
        return {pool: f"{self.prefix}.{last}" for pool, last in SERVICE_BYTES.items()}

    def write_inventory(self, **variables: object) -> None:
        """Write it, with the variables that are no other stack's."""
        reached = {name: {"ansible_host": host.address} for name, host in self.hosts.items()}
        write_inventory(self.directory, self.prefix, reached, **variables)

    def play(self, playbook: str = "site.yml") -> Played:
        """Run a playbook on all hosts."""
        return play(self.directory, playbook)


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
    with plain_hosts(engine, tmp_path_factory.mktemp("operator")) as made:
        yield made


@pytest.fixture(scope="session")
def stack(plain: Stack) -> Stack:
    """The hosts as the playbook has made them."""
    played = plain.play()
    assert set(played.counted("failed").values()) == {0}
    return plain


@contextlib.contextmanager
def plain_hosts(
    engine: docker.DockerClient, directory: Path, *, run_containers: bool = False
) -> Iterator[Stack]:
    """Plain Debian servers, and what their operator has in ``directory``."""
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed (package openssh-client)")
    name = f"smd-servers-{secrets.token_hex(2)}"
    key = write_stack(directory)
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
                runs_containers=run_containers,
            )
        stack = Stack(directory, prefix, hosts)
        stack.write_inventory()
        yield stack
    except NoHost as e:
        pytest.skip(str(e))
    finally:
        for container in engine.containers.list(all=True, filters={"name": name}):
            container.remove(force=True, v=True)
        engine.networks.get(name).remove()


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
