"""One throw-away stack on the real engine; whatever a test leaves behind of it is removed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import docker
import pytest

from sipmediadeploy.images.build import ensure_images
from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.engine import connect
from sipmediadeploy.providers.docker.network import StackNetwork, ensure_network
from sipmediadeploy.providers.docker.provider import DockerProvider
from sipmediadeploy.providers.docker.teardown import remove_stack
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Role, Stack, parse_stack


@dataclass(frozen=True, slots=True)
class Trial:
    """A stack with its network and provider; its replicas are made by the test."""

    client: docker.DockerClient
    stack: Stack
    network: StackNetwork
    version: str

    @property
    def provider(self) -> DockerProvider:
        return DockerProvider(self.stack.name, self.version)

    def document(self, role: Role, slot: int) -> ReplicaDocument:
        name = f"{self.stack.name}-{role}-{slot}"
        return make_document(
            self.stack, self.network.subnet, Secrets(master="m" * 43), self.version, role, slot, name
        )


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    try:
        return connect()
    except ProviderError as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def version(engine: docker.DockerClient) -> str:
    """The images of this checkout; ``SMD_TEST_IMAGES`` names older ones that are to be used as they are."""
    return os.environ.get("SMD_TEST_IMAGES") or ensure_images(engine, print)


@pytest.fixture
def trial(engine: docker.DockerClient, version: str) -> Iterator[Trial]:
    name = f"t4{secrets.token_hex(2)}"
    stack = parse_stack(f"name: {name}\ndomain: sip.example.org\n")
    try:
        yield Trial(engine, stack, ensure_network(engine, stack), version)
    finally:
        remove_stack(engine, name)
