"""Reads the Terraform module without Terraform: what it declares for a foundation.

Its expressions are few on purpose, and these are all that is understood here: ``each.key``,
``each.value.ATTRIBUTE``, ``THING[KEY].id`` or ``.name``, ``local.network_ids[KEY]`` and ``subnet_ids``, and
``each.value.ATTRIBUTE == null ? A : B``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hcl2

from tests.harness.terraform import SOURCES
from tests.unit.terraform.standing import GIVEN, Standing, in_order

MODULE = SOURCES / "openstack"

Plain = dict[str, Any]
"""The foundation as JSON has it: by kind, by key."""


@cache
def blocks(directory: Path, kind: str) -> dict[str, Plain]:
    """The blocks of one kind of all .tf files, by their labels: ``TYPE.NAME`` or ``NAME``."""
    found: dict[str, Plain] = {}
    for path in sorted(directory.glob("*.tf")):
        with path.open(encoding="utf-8") as file:
            for block in hcl2.load(file).get(kind, ()):
                label, body = _labelled(_without_marks(block))
                assert label not in found, f"{label} is there twice"
                found[label] = body
    return found


def resources() -> dict[str, Plain]:
    """Resources by address, data sources under ``data.``."""
    return {f"data.{k}": v for k, v in blocks(MODULE, "data").items()} | blocks(MODULE, "resource")


def kind_of(resource: Plain) -> str | None:
    """The kind of the foundation that a resource loops over; None: it does not."""
    match = re.fullmatch(r"\$\{local\.foundation\.(\w+)}", str(resource.get("for_each", "")))
    return match.group(1) if match else None


def texts(value: object) -> Iterator[str]:
    """Every text within."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


@dataclass(frozen=True, slots=True)
class Declared:
    """The module with a foundation."""

    foundation: Plain

    def standing(self) -> Standing:
        """What would stand in the cloud."""
        rules = self._instances("openstack_networking_secgroup_rule_v2.pool")
        for rule in rules:
            rule["security_group"] = rule.pop("security_group_id")
        between = self._instances("openstack_networking_router_interface_v2.stack")
        return in_order(
            {
                "networks": self._instances("openstack_networking_network_v2.stack"),
                "subnets": [
                    {
                        **{key: one[key] for key in ("name", "cidr", "ip_version", "enable_dhcp")},
                        "network": one["network_id"],
                        "gateway": None if one["no_gateway"] else one["gateway_ip"],
                        "pools": [(pool["start"], pool["end"]) for pool in one["allocation_pool"]],
                        "dns_servers": one["dns_nameservers"],
                    }
                    for one in self._instances("openstack_networking_subnet_v2.stack")
                ],
                "routers": [
                    {
                        **{key: one[key] for key in ("name", "description")},
                        "external_network": one["external_network_id"],
                        "subnets": [two["subnet_id"] for two in between if two["router_id"] == one["name"]],
                    }
                    for one in self._instances("openstack_networking_router_v2.stack")
                ],
                "security_groups": self._instances("openstack_networking_secgroup_v2.pool"),
                "rules": rules,
                "ports": [
                    {
                        **{key: one[key] for key in ("name", "description")},
                        "network": one["network_id"],
                        "fixed_ips": [(ip["subnet_id"], ip["ip_address"]) for ip in one["fixed_ip"]],
                        "security_groups": one["security_group_ids"],
                        "allowed_address_pairs": one.get("allowed_address_pairs", []),
                    }
                    for one in self._instances("openstack_networking_port_v2.service")
                ],
                "floating_ips": [
                    {
                        "description": one["description"],
                        "external_network": one["pool"],
                        "port": one["port_id"],
                    }
                    for one in self._instances("openstack_networking_floatingip_v2.pool")
                ],
            }
        )

    def _instances(self, address: str) -> list[Plain]:
        block = resources()[address]
        kind = kind_of(block)
        assert kind is not None, f"{address} does not loop over the foundation"
        own = {k: v for k, v in block.items() if k not in ("for_each", "depends_on", "lifecycle")}
        return [self._value(own, key, one) for key, one in self.foundation[kind].items()]

    def _value(self, expression: Any, key: str, each: Plain) -> Any:
        if isinstance(expression, dict):
            return {name: self._value(one, key, each) for name, one in expression.items()}
        if isinstance(expression, list):
            return [self._value(one, key, each) for one in expression]
        if isinstance(expression, str) and expression.startswith("${"):
            return self._evaluated(expression[2:-1], key, each)
        return expression

    def _evaluated(self, text: str, key: str, each: Plain) -> Any:
        if text in ("true", "null"):
            return {"true": True, "null": None}[text]
        if text == "each.key":
            return key
        if match := re.fullmatch(r"each\.value\.(\w+)", text):
            return each[match.group(1)]
        if match := re.fullmatch(r"(each\.value\.\w+) == null \? (\S+) : (\S+)", text):
            is_null = self._evaluated(match.group(1), key, each) is None
            return self._evaluated(match.group(2 if is_null else 3), key, each)
        if match := re.fullmatch(r"local\.(network|subnet)_ids\[(.+)]", text):
            return self._name(f"{match.group(1)}s", self._evaluated(match.group(2), key, each))
        if match := re.fullmatch(r"((?:data\.)?\w+\.\w+)\[(.+)]\.(?:id|name)", text):
            kind = kind_of(resources()[match.group(1)])
            return self._name(str(kind).removeprefix("given_"), self._evaluated(match.group(2), key, each))
        raise AssertionError(f"the module has an expression that is not understood here: {text}")

    def _name(self, kind: str, key: str) -> str:
        """The name of something by its key."""
        if key in self.foundation.get(f"given_{kind}", {}):
            return GIVEN[kind][key]
        name: str = self.foundation[kind][key]["name"]
        return name


def _labelled(block: Plain) -> tuple[str, Plain]:
    labels: list[str] = []
    while len(block) == 1 and isinstance(body := next(iter(block.values())), dict):
        labels.append(next(iter(block)))
        block = body
    return ".".join(labels), block


def _without_marks(value: Any) -> Any:
    """Without the parser's own marks, and its quotes around texts and labels."""
    if isinstance(value, dict):
        return {
            _without_marks(key): _without_marks(one) for key, one in value.items() if not key.startswith("__")
        }
    if isinstance(value, list):
        return [_without_marks(one) for one in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
