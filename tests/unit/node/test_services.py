"""Every service that an agent supervises is described by the Ansible role of its replica."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sipmediadeploy.node.roles.conference_demo.role import ConferenceDemoRole
from sipmediadeploy.node.roles.coturn.role import CoturnRole
from sipmediadeploy.node.roles.gateway.role import GatewayRole
from sipmediadeploy.node.roles.kamailio.role import KamailioRole
from sipmediadeploy.node.roles.scaler.role import ScalerRole

ROLES = Path(__file__).resolve().parents[3] / "deploy" / "ansible" / "roles"
KEYS = {
    *("name", "command", "user", "service_user", "directory", "prepare", "environment"),
    *("writes", "capabilities", "families", "compiles", "sees_processes", "starts", "ends_together"),
}


def variables(role: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text())
    return loaded


COMMON = variables("common")


def described(role: str) -> list[dict[str, Any]]:
    """The services of a role; a name in braces is one that roles share."""
    return [
        COMMON[one.strip("{} ")] if isinstance(one, str) else one
        for one in variables(role)[f"{role}_services"]
    ]


@pytest.mark.parametrize(
    ("role", "services"),
    [
        ("kamailio", KamailioRole.services),
        ("coturn", CoturnRole.services),
        ("gateway", GatewayRole.services),
        ("scaler", ScalerRole.services),
        ("conference_demo", ConferenceDemoRole.services),
    ],
)
def test_a_role_describes_the_services_that_its_agent_supervises(
    role: str, services: tuple[str, ...]
) -> None:
    assert [service["name"] for service in described(role)] == list(services)


@pytest.mark.parametrize("role", ["kamailio", "coturn", "gateway", "scaler", "conference_demo"])
def test_descriptions_have_no_key_that_no_template_knows(role: str) -> None:
    for service in [*described(role), COMMON["common_agent_service"]]:
        assert set(service) <= KEYS, service["name"]
        # A relative path would be looked for by the shell, and refused by systemd.
        assert service["command"].startswith("/")


def test_what_a_service_may_is_said_for_each_that_is_root() -> None:
    for role in ("kamailio", "coturn", "gateway", "scaler", "conference_demo"):
        for service in described(role):
            root = "user" not in service and "service_user" not in service
            assert root == ("capabilities" in service), service["name"]
