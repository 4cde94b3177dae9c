"""A real registry: images come back from it as they went, and who may not or can't is told why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from sipmediadeploy.images.inputs import INPUTS, ROLES, images_version, project_root
from sipmediadeploy.images.labels import find_revision
from sipmediadeploy.images.publish import tags
from sipmediadeploy.providers.docker.labels import image_name
from tests.harness.ports import free_port
from tests.harness.registry import PASSWORD, USER, login, running_registry

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Trial:
    """A registry on this host, and a role whose image is pushed to it."""

    registry: str
    role: str
    version: str
    directory: Path

    def smd(self, *words: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        """Run ``smd images`` as somebody who logged in with ``password`` (empty: did not)."""
        known = login(self.registry, password=password) if password else {}
        (self.directory / "config.json").write_text(json.dumps(known))
        return subprocess.run(
            [sys.executable, "-m", "sipmediadeploy.cli.main", "images", *words],
            env={**os.environ, "DOCKER_CONFIG": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )


@pytest.fixture(scope="module")
def trial(
    engine: docker.DockerClient, version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    if version != images_version(project_root()):
        pytest.skip("SMD_TEST_IMAGES: only the images of this checkout are pushed")
    with running_registry(engine) as port:
        smallest = min(ROLES, key=lambda role: engine.images.get(image_name(role, version)).attrs["Size"])
        directory = tmp_path_factory.mktemp("registry")
        yield Trial(f"127.0.0.1:{port}", str(smallest), version, directory)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_an_image_comes_back_from_the_registry_as_it_went(engine: docker.DockerClient, trial: Trial) -> None:
    place = f"{trial.registry}/some/where"
    pushed = trial.smd("push", place, "--role", trial.role, "--sbom", str(trial.directory / "sbom"))
    assert pushed.returncode == 0, pushed.stderr
    repository = f"{place}/{trial.role}"
    wanted = tags(trial.version, find_revision(project_root(), INPUTS))
    lines = [line.split() for line in pushed.stdout.splitlines()]
    assert [name for name, _ in lines] == [f"{repository}:{tag}" for tag in wanted]
    document = (trial.directory / "sbom" / f"{trial.role}-{trial.version}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(document) is None
    purls = " ".join(component.get("purl", "") for component in json.loads(document)["components"])
    assert "pkg:deb/debian/python3@" in purls
    assert "pkg:pypi/sipmediadeploy@" in purls
    assert trial.smd("sbom", trial.role).stdout == document

    here = engine.images.get(image_name(trial.role, trial.version))
    assert not [name for name in here.tags if name.startswith(trial.registry)]
    account = {"username": USER, "password": PASSWORD}
    pulled = engine.images.pull(repository, trial.version, auth_config=account)
    try:
        assert pulled.id == here.id
        assert pulled.labels == here.labels
        assert pulled.labels["org.opencontainers.image.version"] == trial.version
    finally:
        engine.images.remove(f"{repository}:{trial.version}")

    listed = trial.smd("list", place, "--json")
    assert listed.returncode == 0, listed.stderr
    found = [(one["name"], one["tag"], one["digest"]) for one in json.loads(listed.stdout)]
    assert found == [(repository, tag, digest) for tag, (_, digest) in zip(wanted, lines, strict=True)]


def test_the_images_here_are_listed(trial: Trial) -> None:
    result = trial.smd("list", "--json")
    names = {(one["name"], one["tag"]) for one in json.loads(result.stdout)}
    assert {(f"smd/{role}", trial.version) for role in ROLES} <= names


@pytest.mark.parametrize("command", [("push", "--role"), ("list",)])
@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_and_none_are_told(trial: Trial, command: tuple[str, ...], password: str) -> None:
    words = (*command, trial.role) if len(command) > 1 else command
    result = trial.smd(*words, f"{trial.registry}/refused", password=password)
    assert_refused(result, f"docker login {trial.registry}")


def test_where_nobody_listens_the_registry_is_named(engine: docker.DockerClient, trial: Trial) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    result = trial.smd("push", nowhere, "--role", trial.role)
    assert_refused(result, f"registry {nowhere} can't be reached")
    here = engine.images.get(image_name(trial.role, trial.version))
    assert not [name for name in here.tags if name.startswith(nowhere)]
