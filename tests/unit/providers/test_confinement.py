"""A container is confined alike, whether a scaler makes it or a playbook (deploy/ansible/containers.yml)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sipmediadeploy.images.inputs import project_root
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.docker.provider import host_options
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.main import limits_of
from sipmediadeploy.stack import Role, parse_stack
from tests.unit.scaler.fake_scaler import SUBNET

STACK = parse_stack("name: demo\ndomain: sip.example.org\n")
ROLES = (Role.KAMAILIO, Role.COTURN, Role.GATEWAY, Role.CONFERENCE_DEMO)


@pytest.fixture(scope="module")
def playbook() -> dict[str, Any]:
    path = project_root() / "deploy" / "ansible" / "roles" / "container" / "vars" / "main.yml"
    return dict(yaml.safe_load(path.read_text()))


def made_by_scaler(role: Role) -> dict[str, Any]:
    document = make_document(STACK, SUBNET, Secrets(master="m"), "v", role, 0, f"demo-{role}-0")
    return host_options(document, limits_of(STACK, role))


@pytest.mark.parametrize("role", ROLES)
def test_a_container_has_the_same_capabilities(role: Role, playbook: dict[str, Any]) -> None:
    ours = made_by_scaler(role)
    has_vrrp = bool(ours["sysctls"])
    assert has_vrrp == (f"'{role}'" in playbook["container_has_vrrp"])
    capabilities = playbook["container_capabilities"] + playbook["container_vrrp_capabilities"] * has_vrrp
    assert ours["cap_add"] == capabilities
    assert [f"--cap-drop={one}" for one in ours["cap_drop"]] == given(playbook, "cap-drop")


def test_it_has_the_same_other_limits(playbook: dict[str, Any]) -> None:
    ours = made_by_scaler(Role.GATEWAY)
    assert [f"--security-opt={one}" for one in ours["security_opt"]] == given(playbook, "security-opt")
    assert [f"--tmpfs={path}:{how}" for path, how in ours["tmpfs"].items()] == given(playbook, "tmpfs")
    ulimits = [f"--ulimit={one.name}={one.soft}:{one.hard}" for one in ours["ulimits"]]
    assert ulimits == given(playbook, "ulimit")
    log = [f"--log-opt={name}={value}" for name, value in ours["log_config"].config.items()]
    assert log == given(playbook, "log-opt")


def given(playbook: dict[str, Any], option: str) -> list[str]:
    return [one for one in playbook["container_options"] if one.startswith(f"--{option}=")]
