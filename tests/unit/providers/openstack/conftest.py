"""A stack on a fake cloud."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import openstack.connection  # noqa: F401  its import takes long, which no time limit is meant for
import pytest
import yaml

from sipmediadeploy.cli.place import Place
from sipmediadeploy.images.inputs import images_version, project_root
from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.openstack import leftovers, replicas
from sipmediadeploy.providers.openstack.provider import OpenStackProvider, make_provider
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Role, Stack, parse_stack
from tests.unit.providers.openstack.fake_cloud import FakeCloud, running

SUBNET = IPv4Network("10.88.0.0/24")
SMALLEST = "name: demo\ndomain: sip.example.org\nprovider: openstack\n"


@dataclass(frozen=True, slots=True)
class Trial:
    """A fake cloud with all that a stack stands on."""

    cloud: FakeCloud

    def stack(self, settings: str = "", text: str = "") -> Stack:
        """The stack, with ``settings`` of its section ``openstack`` and more ``text``."""
        return parse_stack(SMALLEST + f"openstack: {{{settings}}}\n{text}")

    def provider(self, settings: str = "") -> OpenStackProvider:
        """Its provider."""
        return make_provider(self.stack(settings), "v1", Secrets(master="m", cloud=self.cloud.credentials()))

    def document(
        self, role: Role, slot: int = 0, settings: str = "", number: int = 0, text: str = ""
    ) -> ReplicaDocument:
        """The document of a replica."""
        name = f"demo-{role}-{number or slot}"
        return make_document(self.stack(settings, text), SUBNET, Secrets(master="m"), "v1", role, slot, name)


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    for module in (replicas, leftovers):
        monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as cloud:
        cloud.foundation("demo", SUBNET, [str(role) for role in Role])
        yield Trial(cloud)


@pytest.fixture
def place(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where the stack file and the credentials of the fake cloud are."""
    place = Place(tmp_path / "stack.yaml")
    place.init()
    place.stack_file.write_text(SMALLEST)
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(yaml.safe_dump({"clouds": {"fake": trial.cloud.credentials()}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    monkeypatch.setenv("OS_CLOUD", "fake")
    version = images_version(project_root())
    trial.cloud.add("images", name="smd-scaler", status="active", smd_version=version)
    return place
