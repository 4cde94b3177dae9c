"""As much of Keystone, Nova, Neutron and Glance as the provider speaks to, over HTTP on loopback.

It keeps what it is given, filters and cuts lists as the real ones do, and does wrong what a test tells it to.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network
from typing import Any
from urllib.parse import parse_qs, urlsplit

Thing = dict[str, Any]
PASSWORD = "a-password-that-is-told-to-nobody"
_WITH_IT = {
    "networks": ("subnets", "network_id"),
    "security_groups": ("security_group_rules", "security_group_id"),
}
"""What goes with something, and how it names that."""
_ACTIVE = ("networks", "routers", "ports", "floatingips")


@dataclass
class Fault:
    """What goes wrong ``times`` times with requests whose 'METHOD /path' matches ``request``."""

    request: str
    status: int
    body: str = '{"error": {"message": "as told"}}'
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    done_anyway: bool = False
    """The request has its effect, and only the answer is the fault's."""


class FakeCloud:
    """The state of a cloud with one project."""

    def __init__(self) -> None:
        self.url = ""
        """Keystone's, and of all services that are not in ``urls``."""
        self.urls: dict[str, str] = {}
        """By the first part of their path: services that have an address of their own."""
        self.lock = threading.RLock()
        self.things: dict[str, list[Thing]] = {
            name: []
            for name in (
                *("networks", "subnets", "routers", "ports", "floatingips", "security_groups"),
                *("security_group_rules", "images", "flavors", "servers", "server_groups", "os_keypairs"),
            )
        }
        self.extensions = ["external-net", "router", "security-group", "standard-attr-description"]
        self.extensions += ["standard-attr-timestamp", "allowed-address-pairs"]
        self.limits: dict[str, int] = {"maxTotalInstances": 20, "maxTotalCores": 60, "maxTotalRAMSize": 65536}
        self.limits |= {"maxServerGroups": 10, "maxServerGroupMembers": 10}
        self.limits |= {"maxTotalVolumes": 30, "maxTotalVolumeGigabytes": 1000}
        self.quotas: dict[str, int] = {"port": 100, "floatingip": 20, "network": 10, "subnet": 10}
        self.quotas |= {"router": 5, "security_group": 10, "security_group_rule": 100}
        self.free_public: int | None = None
        """None: the project may not know."""
        self.zones = {"nova": True}
        self.ahead_s = 0.0
        """By how much its clock is ahead."""
        self.requests: list[tuple[str, str, Any]] = []
        self.faults: list[Fault] = []
        self.valid_tokens: set[str] = set()
        self.refused = False
        """Nobody is let in."""
        self.page = 1000
        self.server_status = "ACTIVE"
        self.server_fault = ""
        self._numbers = itertools.count(1)

    def url_of(self, service: str) -> str:
        """Where a service is, without its path."""
        return self.urls.get(service, self.url)

    def credentials(self) -> Thing:
        """How it is reached."""
        auth = {"auth_url": f"{self.url}/v3", "username": "u", "password": PASSWORD, "project_name": "p"}
        return {
            "auth": auth | {"user_domain_name": "Default", "project_domain_name": "Default"},
            "region_name": "RegionOne",
        }

    def add(self, kind: str, **more: Any) -> Thing:
        """Something that is there, whoever made it."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        thing = {
            "id": f"{kind[:-1]}-{next(self._numbers)}",
            "created_at": stamp,
            "project_id": "project",
            **({"status": "ACTIVE"} if kind in _ACTIVE else {}),
            **more,
        }
        self.things[kind].append(thing)
        return thing

    def made(self, what: str) -> list[Any]:
        """The bodies of requests 'METHOD /path' that match ``what`` completely, in order."""
        return [body for method, path, body in self.requests if re.fullmatch(what, f"{method} {path}")]

    def external(self, name: str) -> Thing:
        """A network that public addresses come from."""
        outside = self.add("networks", name=name, **{"router:external": True})
        self.add("subnets", network_id=outside["id"], cidr="198.51.100.0/24", ip_version=4)
        return outside

    def foundation(self, stack: str, subnet: IPv4Network, roles: list[str]) -> None:
        """What a stack stands on, and images and flavours."""
        network = self.add("networks", name=f"smd-{stack}")
        self.add("subnets", network_id=network["id"], cidr=str(subnet), ip_version=4)
        lease = self.add("networks", name=f"smd-{stack}-lease")
        self.add("subnets", network_id=lease["id"], cidr="192.0.2.0/29", ip_version=4)
        self.external("public")
        for role in roles:
            self.add("security_groups", name=f"smd-{stack}-{role}")
        self.images_and_flavors(roles)

    def images_and_flavors(self, roles: list[str]) -> None:
        """What servers are made from."""
        for role in roles:
            self.add("images", name=f"smd-{role}", status="active", smd_version="v0")
            self.add("images", name=f"smd-{role}", status="active", smd_version="v1")
        self.add("flavors", name="small", vcpus=1, ram=1024, disk=10)
        self.add("flavors", name="medium", vcpus=2, ram=2048, disk=10)
        self.add("flavors", name="large", vcpus=8, ram=16384, disk=10)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and body of an authenticated request."""
        service, _, rest = path.strip("/").partition("/")
        parts = rest.split("/")[1:]
        with self.lock:
            if not parts or not parts[0]:
                return 200, self._version(service)
            if method == "GET" and (told := self._told(parts)) is not None:
                return told
            kind = {"os-server-groups": "server_groups"}.get(parts[0], parts[0].replace("-", "_"))
            if method == "GET":
                return self._show(path, kind, parts[1:], query)
            if method == "POST":
                return self._make(kind, body)
            thing = next((one for one in self.things[kind] if one["id"] == parts[1]), None)
            if thing is None:
                return 404, {"NeutronError": {"message": f"{parts[1]} could not be found"}}
            if method == "DELETE":
                if any(thing["id"] in _needs(kind, port) for port in self.things["ports"]):
                    return 409, {"NeutronError": {"message": f"{thing['id']} is in use by a port"}}
                self.things[kind].remove(thing)
                if kind in _WITH_IT:
                    within, of = _WITH_IT[kind]
                    self.things[within][:] = [o for o in self.things[within] if o[of] != thing["id"]]
                for port in self.things["ports"] if kind == "servers" else ():
                    port["device_id"] = "" if port["device_id"] == thing["id"] else port["device_id"]
                return 204, None
            if kind == "routers" and len(parts) > 2:
                return 200, self._connect(parts[2], thing, body["subnet_id"])
            thing.update(next(iter(body.values())))
            return 200, {kind[:-1]: thing}

    def _told(self, parts: list[str]) -> tuple[int, Any] | None:
        """What the cloud says of itself; None: it is asked for a thing."""
        match parts[0]:
            case "limits":
                return 200, {"limits": {"absolute": self._limits()}}
            case "quotas":
                of = {"floatingip": "floatingips"}
                used = {kind: len(self.things[of.get(kind, f"{kind}s")]) for kind in self.quotas}
                quota = {
                    kind: {"limit": limit, "used": used[kind], "reserved": 0}
                    for kind, limit in self.quotas.items()
                }
                return 200, {"quota": quota}
            case "extensions":
                return 200, {"extensions": [{"alias": alias} for alias in self.extensions]}
            case "os-availability-zone":
                zones = [{"zoneName": k, "zoneState": {"available": v}} for k, v in self.zones.items()]
                return 200, {"availabilityZoneInfo": zones}
            case "network-ip-availabilities":
                if self.free_public is None:
                    return 403, {"NeutronError": {"message": "disallowed by policy"}}
                return 200, {"network_ip_availability": {"total_ips": self.free_public, "used_ips": 0}}
        return None

    def _limits(self) -> Thing:
        flavors = [server["flavor"] for server in self.things["servers"]]
        used = {"Instances": len(flavors), "Cores": sum(one["vcpus"] for one in flavors)}
        used |= {"RAM": sum(one["ram"] for one in flavors), "Volumes": 0, "Gigabytes": 0}
        used |= {"ServerGroups": len(self.things["server_groups"])}
        return self.limits | {f"total{name}Used": value for name, value in used.items()}

    def _version(self, service: str) -> Thing:
        name, path = {
            "compute": ("v2.1", "/compute/v2.1/"),
            "image": ("v2.15", "/image/v2/"),
            "volume": ("v3.0", "/volume/v3/"),
        }.get(service, ("v2.0", "/network/v2.0/"))
        one: Thing = {
            "id": name,
            "status": "CURRENT",
            "links": [{"rel": "self", "href": f"{self.url_of(service)}{path}"}],
        }
        if service == "compute":
            return {"version": one | {"version": "2.93", "min_version": "2.1"}}
        return {"versions": [one]}

    def _show(self, path: str, kind: str, more: list[str], query: dict[str, list[str]]) -> tuple[int, Any]:
        found = self.things[kind]
        if more and more[0] != "detail":
            one = next((thing for thing in found if thing["id"] == more[0]), None)
            if one is None:
                return 404, {"itemNotFound": {"message": f"{more[0]} could not be found."}}
            if kind == "servers":
                one["status"] = self.server_status
                one["fault"] = {"message": self.server_fault}
            return 200, one if kind == "images" else {kind[:-1]: one}
        marker, limit = query.pop("marker", [""])[0], int(query.pop("limit", ["1000"])[0])
        query.pop("sort", None)
        offset = int(query.pop("offset", ["0"])[0])
        found = [thing for thing in found if all(_has(thing, key, values) for key, values in query.items())][
            offset:
        ]
        if marker:
            found = found[[thing["id"] for thing in found].index(marker) + 1 :]
        size = min(limit, self.page)
        body: Thing = {kind: found[:size]}
        if len(found) > size and kind != "server_groups":
            href = f"{self.url_of(path.split('/')[1])}{path}?marker={found[size - 1]['id']}&limit={limit}"
            body |= {"next": href} if kind == "images" else {f"{kind}_links": [{"rel": "next", "href": href}]}
        return 200, body

    def _connect(self, how: str, router: Thing, subnet_id: str) -> Thing:
        """Add a router's port in a subnet, at the subnet's gateway, or remove it."""
        subnet = next(one for one in self.things["subnets"] if one["id"] == subnet_id)
        fixed = [{"subnet_id": subnet_id, "ip_address": subnet["gateway_ip"]}]
        if how == "add_router_interface":
            network, device = subnet["network_id"], router["id"]
            port = self.add("ports", network_id=network, device_id=device, description="", fixed_ips=fixed)
        else:
            port = next(one for one in self.things["ports"] if one["fixed_ips"] == fixed)
            self.things["ports"].remove(port)
        return {"id": router["id"], "subnet_id": subnet_id, "port_id": port["id"]}

    def _make(self, kind: str, body: Thing) -> tuple[int, Any]:
        given = dict(next(value for key, value in body.items() if ":" not in key))
        if kind == "ports":
            given = {"device_id": "", "description": "", **given}
            subnet = next(one for one in self.things["subnets"] if one["network_id"] == given["network_id"])
            taken = {
                one["fixed_ips"][0]["ip_address"]
                for one in self.things["ports"]
                if one["network_id"] == given["network_id"]
            }
            free = (str(host) for host in list(IPv4Network(subnet["cidr"]).hosts())[99:])
            address = given.get("fixed_ips", [{}])[0].get("ip_address") or next(
                a for a in free if a not in taken
            )
            if address in taken:
                kind_of = {
                    "type": "IpAddressAlreadyAllocated",
                    "message": f"IP address {address} already allocated",
                }
                return 409, {"NeutronError": kind_of}
            given["fixed_ips"] = [{"subnet_id": subnet["id"], "ip_address": address}]
        if kind == "floatingips":
            number = next(self._numbers)
            given = {"port_id": None, **given, "floating_ip_address": f"203.0.113.{number % 250 + 1}"}
        made = self.add(kind, **given)
        if kind == "servers":
            made["status"] = "BUILD"
            made["flavor"] = next(one for one in self.things["flavors"] if one["id"] == given["flavorRef"])
            for port in self.things["ports"]:
                if port["id"] in [one["port"] for one in given["networks"]]:
                    port["device_id"] = made["id"]
        return 201, {kind[:-1]: made}


def _needs(kind: str, port: Thing) -> list[str]:
    """What of ``kind`` can't be removed before ``port`` is."""
    if kind == "networks":
        return [port["network_id"]]
    if kind == "subnets":
        return [fixed["subnet_id"] for fixed in port["fixed_ips"]]
    return list(port.get("security_groups", ())) if kind == "security_groups" else []


def _has(thing: Thing, key: str, values: list[str]) -> bool:
    if key == "fixed_ips":
        return any(f"{name}={one[name]}" in values for one in thing["fixed_ips"] for name in one)
    value = thing.get(key)
    if isinstance(value, bool):
        return str(value) in (one.capitalize() for one in values)
    return any(str(one) in values for one in value) if isinstance(value, list) else str(value) in values


@contextmanager
def running(*apart: str) -> Iterator[FakeCloud]:
    """A fake cloud that answers until the block ends. Services ``apart`` have addresses of their own, as in a
    real cloud.
    """
    cloud = FakeCloud()
    handler = type("Handler", (_Handler,), {"cloud": cloud})
    with ExitStack() as listening:
        cloud.url = listening.enter_context(_listening(handler))
        cloud.urls = {service: listening.enter_context(_listening(handler)) for service in apart}
        yield cloud


@contextmanager
def _listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone meanwhile."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    cloud: FakeCloud
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms between its head and its body

    def _handle(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        parts, cloud = urlsplit(self.path), self.cloud
        query = parse_qs(parts.query)
        if parts.path.startswith("/v3"):
            self._identity(parts.path)
            return
        cloud.requests.append((self.command, parts.path, body))
        if self.headers.get("X-Auth-Token") not in cloud.valid_tokens:
            self._send(401, {"error": {"message": "The token has expired"}})
            return
        with cloud.lock:
            fault = next(
                (f for f in cloud.faults if f.times and re.search(f.request, f"{self.command} {parts.path}")),
                None,
            )
            if fault is not None:
                fault.times -= 1
        if fault is not None:
            if fault.done_anyway:
                cloud.answer(self.command, parts.path, query, body)
            self._send(fault.status, fault.body, fault.headers)
            return
        self._send(*cloud.answer(self.command, parts.path, query, body))

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _identity(self, path: str) -> None:
        cloud = self.cloud
        if path != "/v3/auth/tokens":
            links = [{"rel": "self", "href": f"{cloud.url}/v3/"}]
            self._send(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})
            return
        if cloud.refused:
            self._send(401, {"error": {"message": "The request you have made requires authentication."}})
            return
        cloud.requests.append(("POST", path, None))
        with cloud.lock:
            token_id = f"token-{len(cloud.made('POST /v3/auth/tokens'))}"
            cloud.valid_tokens.add(token_id)
        paths = {"compute": "/compute/v2.1", "network": "/network", "image": "/image"}
        paths["volumev3"] = "/volume/v3"
        catalog = [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [
                    {
                        "id": kind,
                        "interface": "public",
                        "region_id": "RegionOne",
                        "region": "RegionOne",
                        "url": url,
                    }
                ],
            }
            for kind, url in ((kind, cloud.url_of(path.split("/")[1]) + path) for kind, path in paths.items())
        ]
        token = {
            "methods": ["password"],
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "project": {"id": "project", "name": "p", "domain": {"id": "default", "name": "Default"}},
            "user": {"id": "user", "name": "u", "domain": {"id": "default", "name": "Default"}},
            "catalog": catalog,
            "roles": [],
        }
        self._send(201, {"token": token}, {"X-Subject-Token": token_id})

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time by the cloud's clock."""
        return super().date_time_string(int(time.time() + self.cloud.ahead_s))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
