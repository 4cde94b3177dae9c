"""What a stack stands on: its network and router, security groups, the lease's network.

Terraform makes these for users; here they are made by the same names through the API, for a cloud
without Terraform. Made once, before the first scaler, and by one command at a time.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from sipmediadeploy.protocol.replica import AGENT_PORT, GATEWAY_SIP_PORT, TURN_PORT
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.stack import GATEWAY_SIDE_SIP_PORT, OpenStack, Role, Stack

DEFAULT_SUBNET = IPv4Network("10.86.0.0/24")
"""The range of a stack's own network when its stack file has no ``network.subnet``."""
LEASE_RANGE = IPv4Network("192.0.2.0/29")
"""Nothing is ever sent there (RFC 5737); it has room for the record and the claim."""
RELAY_PORTS = (49160, 49559)
_VRRP = "112"
_EVERYBODY = "0.0.0.0/0"
_SAME_PROTOCOL = {
    "tcp": ("tcp", "6"),
    "udp": ("udp", "17"),
    "icmp": ("icmp", "1"),
    _VRRP: (_VRRP, "vrrp"),
}
"""Neutron shows a protocol as it was given: by name or by number."""


def rules(stack: Stack, role: Role, subnet: IPv4Network) -> list[Body]:
    """The ingress rules of a pool's security group, the least that it needs. Pure."""
    inside = str(subnet)
    found = [_rule("tcp", AGENT_PORT, AGENT_PORT + 1, inside), _rule("icmp", None, None, inside)]
    if role in (Role.KAMAILIO, Role.COTURN):
        found.append(_rule(_VRRP, None, None, inside))
    if role is Role.KAMAILIO:
        for protocol in ("udp", "tcp"):
            found.append(_rule(protocol, stack.sip.port, stack.sip.port, _EVERYBODY))
            found.append(_rule(protocol, GATEWAY_SIDE_SIP_PORT, GATEWAY_SIDE_SIP_PORT, inside))
    if role is Role.COTURN:
        found += [_rule(protocol, TURN_PORT, TURN_PORT, _EVERYBODY) for protocol in ("udp", "tcp")]
        found.append(_rule("udp", *RELAY_PORTS, _EVERYBODY))
    if role is Role.GATEWAY:
        found += [_rule(protocol, GATEWAY_SIP_PORT, GATEWAY_SIP_PORT, inside) for protocol in ("udp", "tcp")]
        found.append(_rule("udp", addresses.RTP_BASE, addresses.RTP_END - 1, _EVERYBODY))
    if role is Role.CONFERENCE_DEMO:
        found += [_rule("tcp", 443, 443, _EVERYBODY), _rule("tcp", 8188, 8188, inside)]
        found.append(_rule("udp", 40000, 40399, _EVERYBODY))
    return found


def missing_rules(wanted: list[Body], there: list[Body]) -> list[Body]:
    """Those of ``wanted`` that no rule of ``there`` covers; a wider rule does. Pure."""
    return [rule for rule in wanted if not any(_covers(one, rule) for one in there)]


def ensure_foundation(cloud: Cloud, stack: Stack, subnet: IPv4Network) -> None:
    """Make what is not there yet; ``subnet`` is the /24 of the stack's own network. Blocking.

    Raises:
        ProviderError: the cloud refuses something; repeating is safe.
    """
    settings = stack.openstack or OpenStack()
    network = _ensure(cloud, "network", settings.network or f"smd-{stack.name}", {})
    plan = {
        "start": str(subnet[240]),
        "end": str(subnet[254]),
    }  # the slots' addresses are not the cloud's to give
    own = {"network_id": network, "cidr": str(subnet), "ip_version": 4, "allocation_pools": [plan]}
    inner = _ensure(cloud, "subnet", f"smd-{stack.name}", own)
    lease = _ensure(cloud, "network", network_name(stack.name), {})
    quiet = {"network_id": lease, "cidr": str(LEASE_RANGE), "ip_version": 4}
    _ensure(cloud, "subnet", network_name(stack.name), {**quiet, "enable_dhcp": False, "gateway_ip": None})
    for role in Role:
        _ensure_group(cloud, stack, role, subnet)
    external = Lookup(cloud, stack.name, settings, "").external_network()
    if external is not None:
        _ensure_router(cloud, f"smd-{stack.name}", external, inner)


def remove_foundation(cloud: Cloud, stack: Stack) -> None:
    """Remove it again, when nothing of the stack stands on it any more. Blocking; repeatable."""
    name = f"smd-{stack.name}"
    for router in named(cloud, "router", name):
        for subnet in named(cloud, "subnet", name):
            path, body = f"/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]}
            if _has_interface(cloud, router, subnet):
                cloud.put(f"router {name}", "network", path, body)
        cloud.delete(f"router {name}", "network", f"/routers/{router['id']}")
    for network in (network_name(stack.name), name):
        for one in named(cloud, "network", network):
            cloud.delete(f"network {network}", "network", f"/networks/{one['id']}")
    for role in Role:
        for one in named(cloud, "security-group", marks.pool_name(stack.name, role)):
            cloud.delete(f"security group of {role}", "network", f"/security-groups/{one['id']}")


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


def _covers(rule: Body, wanted: Body) -> bool:
    """Whether all that ``wanted`` lets in is let in by ``rule``, as Neutron shows it."""
    if (rule.get("direction"), rule.get("ethertype")) != (wanted["direction"], wanted["ethertype"]):
        return False
    protocol = str(rule.get("protocol") or "any").lower()
    if protocol not in ("any", *_SAME_PROTOCOL.get(wanted["protocol"], (wanted["protocol"],))):
        return False
    if rule.get("remote_group_id") or rule.get("remote_address_group_id"):
        return False
    sources = IPv4Network(rule.get("remote_ip_prefix") or _EVERYBODY, strict=False)
    if not IPv4Network(wanted["remote_ip_prefix"]).subnet_of(sources):
        return False
    first, last = rule.get("port_range_min"), rule.get("port_range_max")
    if first is None and last is None:
        return True
    low, high = wanted.get("port_range_min"), wanted.get("port_range_max")
    if first is None or last is None or low is None or high is None:
        return False
    return int(first) <= int(low) and int(high) <= int(last)


def _rule(protocol: str, first: int | None, last: int | None, source: str) -> Body:
    rule: Body = {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": protocol,
        "remote_ip_prefix": source,
    }
    if first is not None:
        rule |= {"port_range_min": first, "port_range_max": last}
    return rule


def _ensure_group(cloud: Cloud, stack: Stack, role: Role, subnet: IPv4Network) -> None:
    group = _ensure(cloud, "security-group", marks.pool_name(stack.name, role), {})
    what = f"security group of {role}"
    for rule in missing_rules(rules(stack, role, subnet), ingress_rules(cloud, what, group)):
        body = {"security_group_rule": rule | {"security_group_id": group}}
        cloud.post(what, "network", "/security-group-rules", body)


def _ensure_router(cloud: Cloud, name: str, external: str, subnet: str) -> None:
    router = _ensure(cloud, "router", name, {"external_gateway_info": {"network_id": external}})
    if not _has_interface(cloud, {"id": router}, {"id": subnet}):
        path = f"/routers/{router}/add_router_interface"
        cloud.put(f"router {name}", "network", path, {"subnet_id": subnet})


def _has_interface(cloud: Cloud, router: Body, subnet: Body) -> bool:
    query = {"device_id": router["id"], "fixed_ips": f"subnet_id={subnet['id']}"}
    return next(cloud.all("router's ports", "network", "/ports", "ports", query), None) is not None


def _ensure(cloud: Cloud, kind: str, name: str, more: dict[str, Any]) -> str:
    found = named(cloud, kind, name)
    if found:
        return str(found[0]["id"])
    key = kind.replace("-", "_")
    body = {key: {"name": name, **more}}
    return str(cloud.post(f"{kind} {name}", "network", f"/{kind}s", body)[key]["id"])
