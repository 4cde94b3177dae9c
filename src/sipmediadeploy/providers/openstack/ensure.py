"""Makes the foundation of a stack through the API, for a cloud without Terraform; and removes it.

By one command at a time: two would make things twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud
from sipmediadeploy.providers.openstack.foundation import OWN, Router, Rule, Subnet, foundation
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.providers.openstack.service_addresses import ServiceAddresses
from sipmediadeploy.stack import OpenStack, Role, Stack

_SAME_PROTOCOL = {
    "tcp": ("tcp", "6"),
    "udp": ("udp", "17"),
    "icmp": ("icmp", "1"),
    "112": ("112", "vrrp"),
}
"""Neutron shows a protocol as it was given: by name or by number."""


def ensure_foundation(cloud: Cloud, stack: Stack, subnet: IPv4Network) -> None:
    """Make what is not there yet; ``subnet`` is the /24 of the stack's own network. Blocking.

    Without an external network there is no router and no floating IP.

    Raises:
        ProviderError: the cloud refuses something; repeating is safe.
    """
    wanted, settings = foundation(stack, subnet), stack.openstack or OpenStack()
    lookup = Lookup(cloud, stack.name, settings, "")
    external = lookup.external_network()
    networks = {
        key: ensure_one(cloud, "network", one.name, {"description": one.description})
        for key, one in wanted.networks.items()
    }
    if OWN in wanted.given_networks:
        lookup.network()  # says so when it is missing
    subnets = {
        key: ensure_one(cloud, "subnet", one.name, subnet_body(one, networks[one.network]))
        for key, one in wanted.subnets.items()
    }
    for key, group in wanted.security_groups.items():
        id_ = ensure_one(cloud, "security-group", group.name, {"description": group.description})
        ensure_rules(cloud, group.name, id_, [r for r in wanted.rules.values() if r.security_group == key])
    for router in wanted.routers.values() if external is not None else ():
        ensure_router(cloud, router, str(external), subnets[router.subnet])
    pools = ServiceAddresses(cloud, lookup, stack.name, settings.service_addresses == "vrrp")
    for key, ip in wanted.floating_ips.items():
        address = IPv4Address(wanted.ports[ip.port].address) if ip.port is not None else None
        pools.ensure(Role(key), address)


def remove_foundation(cloud: Cloud, stack: Stack) -> None:
    """Remove it again, when nothing of the stack stands on it any more. Blocking; repeatable.

    Service addresses and their floating IPs are removed with the stack (``leftovers.remove_stack``).
    """
    name = f"smd-{stack.name}"
    remove_router(cloud, name)
    for network in (network_name(stack.name), name):
        remove_named(cloud, "network", network)
    for role in Role:
        remove_named(cloud, "security-group", marks.pool_name(stack.name, role))


def remove_router(cloud: Cloud, name: str) -> None:
    """Remove the routers of a name, which are connected with the subnets of that name. Blocking; repeatable.

    Raises:
        ProviderError: the cloud refuses.
    """
    for router in named(cloud, "router", name):
        for subnet in named(cloud, "subnet", name):
            path, body = f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]}
            if _has_interface(cloud, router, subnet):
                cloud.put(f"router {name}", "network", path, body)
        cloud.delete(f"router {name}", "network", f"/routers/{router['id']}")


def remove_named(cloud: Cloud, kind: str, name: str) -> None:
    """Remove the project's own things of a kind and a name; none is no error. Blocking.

    Raises:
        ProviderError: the cloud refuses.
    """
    for one in named(cloud, kind, name):
        cloud.delete(f"{kind} {name}", "network", f"/{kind}s/{one['id']}")


def named(cloud: Cloud, kind: str, name: str) -> list[Body]:
    """The project's own things of a kind and a name: ``security-group``, ``network``, ``router``, ...

    Raises:
        ProviderError: they can't be read.
    """
    query = {"name": name, "project_id": cloud.project}
    return list(cloud.all(f"{kind} {name}", "network", f"/{kind}s", f"{kind}s".replace("-", "_"), query))


def ingress_rules(cloud: Cloud, what: str, group: str) -> list[Body]:
    """The rules of a security group for what comes in, as Neutron shows them.

    Raises:
        ProviderError: they can't be read.
    """
    query = {"security_group_id": group, "direction": "ingress"}
    return list(cloud.all(what, "network", "/security-group-rules", "security_group_rules", query))


def subnet_body(subnet: Subnet, network: str) -> Body:
    """A subnet of the network with the id ``network``, as the API has it. Pure."""
    return {
        "network_id": network,
        "cidr": subnet.cidr,
        "ip_version": 4,
        "gateway_ip": subnet.gateway,
        "enable_dhcp": subnet.dhcp,
        "allocation_pools": [{"start": subnet.first, "end": subnet.last}],
        "dns_nameservers": list(subnet.dns_servers),
    }


def rule_body(rule: Rule) -> Body:
    """A rule as the API has it, without its group and its description. Pure."""
    body: Body = {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": rule.protocol,
        "remote_ip_prefix": rule.source,
    }
    if rule.first_port is not None:
        body |= {"port_range_min": rule.first_port, "port_range_max": rule.last_port}
    return body


def missing_rules(wanted: Iterable[Rule], there: Sequence[Body]) -> list[Rule]:
    """Those of ``wanted`` that no rule of ``there``, as Neutron shows it, covers; a wider one does. Pure."""
    return [rule for rule in wanted if not any(_covers(one, rule) for one in there)]


def _covers(there: Body, rule: Rule) -> bool:
    """Whether all that ``rule`` lets in is let in by one that is there."""
    if there.get("direction") != "ingress" or there.get("ethertype") != "IPv4":
        return False
    protocol = str(there.get("protocol") or "any").lower()
    if protocol not in ("any", *_SAME_PROTOCOL.get(rule.protocol, (rule.protocol,))):
        return False
    if there.get("remote_group_id") or there.get("remote_address_group_id"):
        return False
    sources = IPv4Network(there.get("remote_ip_prefix") or "0.0.0.0/0", strict=False)
    if not IPv4Network(rule.source).subnet_of(sources):
        return False
    first, last = there.get("port_range_min"), there.get("port_range_max")
    if first is None and last is None:
        return True
    if first is None or last is None or rule.first_port is None or rule.last_port is None:
        return False
    return int(first) <= rule.first_port and rule.last_port <= int(last)


def ensure_rules(cloud: Cloud, name: str, group: str, rules: Iterable[Rule]) -> None:
    """See to it that the security group ``name`` with the id ``group`` lets in what ``rules`` say. Blocking.

    Raises:
        ProviderError: the cloud refuses.
    """
    what = f"security group {name}"
    for rule in missing_rules(rules, ingress_rules(cloud, what, group)):
        more = {"security_group_id": group, "description": rule.description}
        cloud.post(what, "network", "/security-group-rules", {"security_group_rule": rule_body(rule) | more})


def ensure_router(cloud: Cloud, router: Router, external: str, subnet: str) -> None:
    """See to it that the router is there, between the network ``external`` and ``subnet`` (ids). Blocking.

    Raises:
        ProviderError: the cloud refuses.
    """
    more = {"description": router.description, "external_gateway_info": {"network_id": external}}
    id_ = ensure_one(cloud, "router", router.name, more)
    if not _has_interface(cloud, {"id": id_}, {"id": subnet}):
        path = f"/routers/{id_}/add_router_interface"
        cloud.put(f"router {router.name}", "network", path, {"subnet_id": subnet})


def _has_interface(cloud: Cloud, router: Body, subnet: Body) -> bool:
    query = {"device_id": router["id"], "fixed_ips": f"subnet_id={subnet['id']}"}
    return next(cloud.all("router's ports", "network", "/ports", "ports", query), None) is not None


def ensure_one(cloud: Cloud, kind: str, name: str, more: dict[str, Any]) -> str:
    """The id of the project's own thing of a kind and a name, made with ``more`` if it is missing. Blocking.

    Raises:
        ProviderError: the cloud refuses.
    """
    found = named(cloud, kind, name)
    if found:
        return str(found[0]["id"])
    key = kind.replace("-", "_")
    body = {key: {"name": name, **more}}
    return str(cloud.post(f"{kind} {name}", "network", f"/{kind}s", body)[key]["id"])
