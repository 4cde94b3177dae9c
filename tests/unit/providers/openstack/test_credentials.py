"""How a cloud's credentials are found, and what of them travels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sipmediadeploy.cli.place import Place
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.provider import DockerProvider
from sipmediadeploy.providers.openstack.cloud import read_credentials
from sipmediadeploy.providers.openstack.provider import OpenStackProvider
from sipmediadeploy.scaler.main import load_provider
from sipmediadeploy.stack import Stack, load_stack
from tests.unit.providers.openstack.conftest import SMALLEST, Trial


@pytest.fixture(autouse=True)
def _no_clouds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))


def test_a_cloud_of_clouds_yaml_with_its_authorities(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    entry = {
        "auth": {"auth_url": "https://c.test/v3", "username": "u", "password": "p", "project_name": "x"},
        "region_name": "one",
        "cacert": str(tmp_path / "ca.pem"),
        "network_endpoint_override": "https://n.test/",
    }
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"mine": entry}}))
    found = read_credentials("mine")
    assert found["auth"]["password"] == "p"
    assert (found["region_name"], found["network_endpoint_override"]) == ("one", "https://n.test/")
    assert found["cacert_pem"].startswith("-----BEGIN CERTIFICATE")
    assert "cacert" not in found, "the path means nothing on a scaler"
    assert Secrets.model_validate_json(Secrets(master="m", cloud=found).model_dump_json()).cloud == found
    assert "password" not in repr(Secrets(master="m", cloud=found))
    with pytest.raises(ProviderError, match=r"cloud other: .*see openstack.cloud, clouds.yaml"):
        read_credentials("other")


def test_an_application_credential_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_AUTH_URL", "https://c.test/v3")
    monkeypatch.setenv("OS_AUTH_TYPE", "v3applicationcredential")
    monkeypatch.setenv("OS_APPLICATION_CREDENTIAL_ID", "id")
    monkeypatch.setenv("OS_APPLICATION_CREDENTIAL_SECRET", "secret")
    found = read_credentials(None)
    assert found["auth_type"] == "v3applicationcredential"
    assert found["auth"]["application_credential_id"] == "id"
    assert found["auth"]["application_credential_secret"] == "secret"


def test_no_credentials_at_all_is_said() -> None:
    with pytest.raises(ProviderError, match="cloud's credentials"):
        read_credentials(None)


def test_a_command_reads_them_and_hands_them_to_scalers(trial: Trial, tmp_path: Path) -> None:
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"mine": trial.cloud.credentials()}}))
    (tmp_path / "stack.yaml").write_text(SMALLEST + "openstack: {cloud: mine}\n")
    place = Place(tmp_path / "stack.yaml")
    place.init()
    stack = load_stack(place.stack_file)
    secrets = place.secrets(stack)
    assert secrets.cloud is not None
    assert secrets.cloud["auth"] == trial.cloud.credentials()["auth"]
    assert isinstance(load_provider(stack, "v1", secrets), OpenStackProvider)


def test_the_provider_is_found_by_the_stacks_word(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(name="demo", domain="sip.test")
    assert load_provider(stack, "v1", Secrets(master="m")) == DockerProvider("demo", "v1")
    with pytest.raises(ProviderError, match="no provider 'mine' is installed"):
        load_provider(stack.model_copy(update={"provider": "mine"}), "v1", Secrets(master="m"))


def test_openstacksdk_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sipmediadeploy.scaler.main, sipmediadeploy.providers.openstack.provider, sys; "
        "print([name for name in ('openstack', 'keystoneauth1') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
