"""The service addresses of pools, and the pools' floating IPs.

A service address is a port of its own, which keeps the address from being given to anything else, and to
which the floating IP is mapped for good. Which replica answers it is decided by VRRP. Where the cloud
allows no address pairs there is no such port, and the floating IP is mapped to a replica's.
"""

from __future__ import annotations

import threading
from ipaddress import IPv4Address

from sipmediadeploy.providers.base import SERVICE_ADDRESS, FloatingIp, ProviderError
from sipmediadeploy.providers.openstack import bodies, marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud
from sipmediadeploy.providers.openstack.errors import Conflict, Missing
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.stack import Role

ROLES = (Role.KAMAILIO, Role.COTURN)
"""Pools that have a service address."""
PUBLIC_ROLES = (*ROLES, Role.SCALER)
"""Pools that have a floating IP."""


class ServiceAddresses:
    """Blocking, for any thread."""

    def __init__(self, cloud: Cloud, lookup: Lookup, stack: str, vrrp: bool) -> None:
        """``vrrp``: there are service addresses; without them there are floating IPs only."""
        self._cloud = cloud
        self._lookup = lookup
        self._stack = stack
        self._vrrp = vrrp
        self._lock = threading.Lock()
        """Who looks and makes does so alone; two scalers do not, for only the leader acts."""

    def ensure(self, role: Role, address: IPv4Address | None) -> IPv4Address | None:
        """See to it that the pool has its port at ``address`` and its floating IP, which is returned.

        None: the cloud has no external network.
        """
        with self._lock:
            port = self._port(role, address) if self._vrrp and address is not None else None
            mark = marks.service_mark(self._stack, role)
            there = self._floating_ips([mark])
            if not there:
                network = self._lookup.external_network()
                if network is None:
                    return None
                what = f"floating IP of {role}"
                body = bodies.floating_ip(network, mark, port)
                there = [self._cloud.post(what, "network", "/floatingips", body)["floatingip"]]
            return IPv4Address(there[0]["floating_ip_address"])

    def make(self, role: Role, to: str) -> None:
        """Make the floating IP of a pool without service address, mapped to a replica, unless it is there."""
        what, mark = f"floating IP of {role}", marks.service_mark(self._stack, role)
        with self._lock:
            if self._floating_ips([mark]):
                return
            network = self._lookup.external_network()
            if network is None:
                raise Missing(f"{what}: the cloud has no external network", hint="set openstack.api: none")
            body = bodies.floating_ip(network, mark, self._target(what, role, to))
            self._cloud.post(what, "network", "/floatingips", body)

    def mapped(self) -> list[FloatingIp]:
        """The floating IPs of the pools, and what each is mapped to."""
        of = self._public_marks()
        ports: dict[str, str] = {}
        query = {"description": [*of, marks.replica_mark(self._stack)]}
        for port in self._cloud.all("ports of the stack", "network", "/ports", "ports", query):
            role = of.get(port["description"])
            ports[port["id"]] = f"{SERVICE_ADDRESS} of {role}" if role else str(port["device_id"] or "")
        found: dict[Role, FloatingIp] = {}
        for ip in self._floating_ips(list(of)):
            role, port_id = of[ip["description"]], ip["port_id"]
            mapped = ports.get(port_id) or f"the port {port_id}" if port_id else None
            if mapped == f"{SERVICE_ADDRESS} of {role}":
                mapped = SERVICE_ADDRESS
            found.setdefault(role, FloatingIp(role, IPv4Address(ip["floating_ip_address"]), mapped))
        return list(found.values())

    def map(self, address: IPv4Address, to: str) -> None:
        """Map a floating IP in one step: one that is detached first leaves callers without an answer."""
        what = f"mapping {address} to {to}"
        of = self._public_marks()
        ip = next((i for i in self._floating_ips(list(of)) if i["floating_ip_address"] == str(address)), None)
        if ip is None:
            raise Missing(f"{what}: it is no floating IP of stack {self._stack}")
        port = self._target(what, of[ip["description"]], to)
        self._cloud.put(what, "network", f"/floatingips/{ip['id']}", {"floatingip": {"port_id": port}})

    def _public_marks(self) -> dict[str, Role]:
        return {marks.service_mark(self._stack, role): role for role in PUBLIC_ROLES}

    def _target(self, what: str, role: Role, to: str) -> str:
        query = {"description": marks.service_mark(self._stack, role)}
        if to != SERVICE_ADDRESS:
            own = self._lookup.network()
            query = {"description": marks.replica_mark(self._stack), "device_id": to, "network_id": own}
        port = next(self._cloud.all(what, "network", "/ports", "ports", query), None)
        if port is None:
            raise Missing(f"{what}: there is no port of it")
        return str(port["id"])

    def _port(self, role: Role, address: IPv4Address) -> str:
        what, query = f"service address of {role}", {"description": marks.service_mark(self._stack, role)}
        found = next(self._cloud.all(what, "network", "/ports", "ports", query), None)
        if found is None:
            subnet, _ = self._lookup.subnet(address)
            port = {
                "name": marks.pool_name(self._stack, role),
                "description": query["description"],
                "network_id": self._lookup.network(),
                "fixed_ips": [{"subnet_id": subnet, "ip_address": str(address)}],
                "security_groups": list(self._lookup.security_groups(role)),
            }
            try:
                found = self._cloud.post(what, "network", "/ports", {"port": port})["port"]
            except Conflict:
                raise Conflict(
                    f"{what}: {address} is in use by another port of the stack's network",
                    hint="the network's allocation pool must leave .2 to .239 alone",
                ) from None
        has = [one["ip_address"] for one in found["fixed_ips"]]
        if str(address) not in has:
            raise ProviderError(
                f"{what}: its port {found['id']} has {', '.join(has)}, not {address}", hint="remove it"
            )
        return str(found["id"])

    def _floating_ips(self, of: list[str]) -> list[Body]:
        """Those with one of the marks, the oldest first: should there be two of a pool, all agree on
        one.
        """
        what = f"floating IPs of stack {self._stack}"
        found = self._cloud.all(what, "network", "/floatingips", "floatingips", {"description": of})
        return sorted(found, key=lambda ip: (str(ip.get("created_at", "")), str(ip["id"])))
