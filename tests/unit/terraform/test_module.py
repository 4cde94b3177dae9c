"""The module makes what the foundation says, no more and no less, and lets go of it in order."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any, get_args, get_type_hints

import pytest

from sipmediadeploy.cli.config import described_foundation, effective
from sipmediadeploy.protocol.replica import AGENT_PORT
from sipmediadeploy.protocol.scaler import API_PORT
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.ensure import ensure_foundation
from sipmediadeploy.providers.openstack.foundation import Foundation
from sipmediadeploy.stack import parse_stack
from tests.harness.terraform import SOURCES
from tests.unit.providers.openstack.fake_cloud import FakeCloud
from tests.unit.terraform.module import MODULE, Declared, blocks, kind_of, resources, texts
from tests.unit.terraform.stacks import STACKS, stack_of
from tests.unit.terraform.standing import standing_in


def attributes_of(kind: str) -> set[str]:
    """What the foundation says of each thing of a kind."""
    of = get_args(get_type_hints(Foundation)[kind])[1]
    return {field.name for field in dataclasses.fields(of)}


@pytest.mark.parametrize("kind", [field.name for field in dataclasses.fields(Foundation)])
def test_every_attribute_of_the_foundation_is_used_and_no_other(kind: str) -> None:
    loops = [one for one in resources().values() if kind_of(one) == kind]
    used = {name for one in loops for text in texts(one) for name in re.findall(r"each\.value\.(\w+)", text)}
    assert used == attributes_of(kind)


def test_a_module_has_no_loop_but_over_the_foundation() -> None:
    kinds = {kind_of(one) for one in resources().values() if "for_each" in one}
    assert kinds == {field.name for field in dataclasses.fields(Foundation)}


@pytest.mark.parametrize("which", STACKS)
def test_terraform_declares_what_the_api_makes(which: str, empty_cloud: FakeCloud) -> None:
    stack = stack_of(which)
    assert stack.network.subnet is not None
    data = json.loads(json.dumps(described_foundation(stack)))["foundation"]
    ensure_foundation(Cloud(empty_cloud.credentials), stack, stack.network.subnet)
    made = standing_in(empty_cloud)
    assert Declared(data).standing() == made
    assert made["rules"]
    assert made["floating_ips"]


def test_the_stack_file_is_all_that_terraform_needs_to_be_told() -> None:
    variables, call = blocks(MODULE, "variable"), blocks(SOURCES / "example", "module")["stack"]
    needed = {name for name, one in variables.items() if "default" not in one}
    assert needed == {"stack", "stack_file"}
    assert set(call) - {"source"} == set(variables), "the example shows every variable of the module"
    assert all("default" in one for one in blocks(SOURCES / "example", "variable").values())
    stack = parse_stack("name: demo\ndomain: sip.example.org\nprovider: openstack\n")
    told = effective(stack) | described_foundation(stack)
    for text in (text for block in resources().values() for text in texts(block)):
        for path in re.findall(r"var\.stack\.([\w.]+)", text):
            value: Any = told
            for part in path.split("."):
                value = value[part]


def test_every_variable_output_and_input_is_described_and_used() -> None:
    for directory in (MODULE, SOURCES / "example"):
        text = "".join(path.read_text() for path in directory.glob("*.tf"))
        for kind in ("variable", "output"):
            for name, one in blocks(directory, kind).items():
                assert one["description"], name
                assert kind == "output" or f"var.{name}" in text, f"{name} is not used"


def test_the_readme_says_every_port_that_is_let_in() -> None:
    text = (SOURCES / "README.md").read_text()
    rows = {row.split("|")[1]: row for row in text.splitlines() if row.startswith("| `")}
    for rule in described_foundation(stack_of("smallest"))["foundation"]["rules"].values():  # type: ignore[index]
        if rule["first_port"] not in (None, AGENT_PORT):
            (row,) = [row for name, row in rows.items() if f"`{rule['security_group']}`" in name]
            assert {str(rule["first_port"]), str(rule["last_port"])} <= set(re.findall(r"\d+", row))
    assert f"TCP {AGENT_PORT}" in text
    assert f"TCP {API_PORT}" in text


def test_the_picture_shows_every_port_that_is_let_in() -> None:
    picture = (SOURCES.parents[1] / "docs" / "pictures" / "openstack-infrastructure.svg").read_text()
    shown = set(re.findall(r"\d+", " ".join(re.findall(r">([^<>]+)<", picture))))
    for rule in described_foundation(stack_of("smallest"))["foundation"]["rules"].values():  # type: ignore[index]
        if rule["security_group"] != "conference-demo" and rule["first_port"] is not None:
            assert {str(rule["first_port"]), str(rule["last_port"])} <= shown, rule
    assert str(API_PORT) in shown


def test_scalers_move_floating_ips_without_terraform_moving_them_back() -> None:
    (lifecycle,) = resources()["openstack_networking_floatingip_v2.pool"]["lifecycle"]
    assert {"port_id", "fixed_ip"} <= set(lifecycle["ignore_changes"])
    assert not [address for address in resources() if "floatingip_associate" in address]


def test_nothing_but_destroy_takes_a_running_stack_down() -> None:
    down = resources()["terraform_data.replicas"]
    assert {"triggers_replace", "count", "for_each"}.isdisjoint(down), "what is replaced is destroyed first"
    (provisioner,) = down["provisioner"]
    ran = provisioner["local-exec"]
    assert ran["when"] == "destroy"
    assert " down --stack " in ran["command"]
    assert all(not re.search(r"\b(var|local|each|path)\.", text) for text in texts(ran)), (
        "a destroy provisioner knows itself only"
    )


def test_replicas_go_before_what_they_stand_on_and_come_after_it() -> None:
    after = {text.strip("${}") for text in resources()["terraform_data.replicas"]["depends_on"]}
    others = {a for a in resources() if not a.startswith(("data.", "terraform_data."))}
    implied = {
        f"{kind}.{name}"
        for address in after
        for text in texts(resources()[address])
        for kind, name in re.findall(r"(openstack_\w+)\.(\w+)\[", text)
    }
    by_name = {"openstack_networking_network_v2.stack", "openstack_networking_router_v2.stack"}
    assert others - after - implied <= by_name
    bootstrap = resources()["terraform_data.bootstrap"]
    assert bootstrap["depends_on"] == ["${terraform_data.replicas}"]
    assert " bootstrap --stack " in bootstrap["provisioner"][0]["local-exec"]["command"]
    assert "when" not in bootstrap["provisioner"][0]["local-exec"], "bootstrap = false ends nothing"
