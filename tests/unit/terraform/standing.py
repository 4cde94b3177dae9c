"""What stands in a cloud, in one form whoever made it: with names in place of ids, to be compared."""

from __future__ import annotations

from typing import Any

from tests.unit.providers.openstack.fake_cloud import FakeCloud, Thing

GIVEN = {"networks": {"external": "public", "own": "inner"}, "subnets": {"own": "inner"}}
"""The names of what is there already, by its keys in the foundation."""
Standing = dict[str, list[Thing]]
KINDS = ("networks", "subnets", "routers", "security_groups", "rules", "ports", "floating_ips")


def in_order(standing: Standing) -> Standing:
    """The same, in an order of its own."""
    return {kind: sorted(standing[kind], key=lambda one: repr(sorted(one.items()))) for kind in KINDS}


def standing_in(cloud: FakeCloud) -> Standing:
    """What was made in ``cloud``, besides what is given."""
    things = cloud.things
    name = {str(one["id"]): one.get("name") for kind in things.values() for one in kind}
    made = [one for one in things["networks"] if one["name"] not in GIVEN["networks"].values()]
    inside = {str(one["id"]) for one in made}
    return in_order(
        {
            "networks": [_only(one, "name", "description") for one in made],
            "subnets": [_subnet(one, name) for one in things["subnets"] if one["network_id"] in inside],
            "routers": [_router(one, things["ports"], name) for one in things["routers"]],
            "security_groups": [_only(one, "name", "description") for one in things["security_groups"]],
            "rules": [_rule(one, name) for one in things["security_group_rules"]],
            "ports": [_port(one, name) for one in things["ports"] if not one["device_id"]],
            "floating_ips": [
                {
                    "description": ip["description"],
                    "external_network": name[ip["floating_network_id"]],
                    "port": name[ip["port_id"]] if ip["port_id"] else None,
                }
                for ip in things["floatingips"]
            ],
        }
    )


def _only(thing: Thing, *keys: str) -> Thing:
    return {key: thing.get(key) for key in keys}


def _subnet(one: Thing, name: dict[str, Any]) -> Thing:
    return {
        **_only(one, "name", "cidr", "ip_version", "enable_dhcp"),
        "network": name[one["network_id"]],
        "gateway": one.get("gateway_ip") or None,
        "pools": [(pool["start"], pool["end"]) for pool in one["allocation_pools"]],
        "dns_servers": list(one.get("dns_nameservers") or ()),
    }


def _router(one: Thing, ports: list[Thing], name: dict[str, Any]) -> Thing:
    mine = [port for port in ports if port["device_id"] == one["id"]]
    return {
        **_only(one, "name", "description"),
        "external_network": name[one["external_gateway_info"]["network_id"]],
        "subnets": [name[fixed["subnet_id"]] for port in mine for fixed in port["fixed_ips"]],
    }


def _rule(one: Thing, name: dict[str, Any]) -> Thing:
    keys = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix")
    return {**_only(one, "description", *keys), "security_group": name[one["security_group_id"]]}


def _port(one: Thing, name: dict[str, Any]) -> Thing:
    return {
        **_only(one, "name", "description"),
        "network": name[one["network_id"]],
        "fixed_ips": [(name[fixed["subnet_id"]], fixed["ip_address"]) for fixed in one["fixed_ips"]],
        "security_groups": [name[group] for group in one["security_groups"]],
        "allowed_address_pairs": list(one.get("allowed_address_pairs") or ()),
    }
