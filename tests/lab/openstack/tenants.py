"""What tests make in the lab as a tenant, and how they look at it from this host."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.harness.openstack.settings import Lab
from tests.lab.openstack.inside.api import Api, ApiError, wait_for

COMMAND = Path(__file__).with_name("lab")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ACTIVE_LIMIT_S = ANSWER_LIMIT_S = 180


class Tenant:
    """One user of the cloud, who remembers what was made."""

    def __init__(self, lab: Lab, cloud: str) -> None:
        auth = json.loads(lab.clouds.read_text())["clouds"][cloud]["auth"]
        self.api = Api(str(lab.api_address), auth["username"], auth["password"], auth["project_name"])
        self._made: list[tuple[str, str]] = []

    def make(self, service: str, plural: str, **values: Any) -> Any:
        """One thing, as in ``make("network", "ports", network_id=…)``."""
        kind = plural.removesuffix("s").replace("-", "_")
        made = self.api.call("POST", service, f"/{plural}", {kind: values})[kind]
        self._made.append((service, f"/{plural}/{made['id']}"))
        return made

    def network(self, name: str, **more: Any) -> Any:
        """A network with a subnet behind a router to ``public``, and a security group that lets all in.

        ``more``: of the subnet.
        """
        network = self.make("network", "networks", name=name)
        addresses = {"ip_version": 4, "cidr": "10.99.0.0/24"}
        subnet = self.make("network", "subnets", name=name, network_id=network["id"], **addresses, **more)
        router = self.make(
            "network", "routers", name=name, external_gateway_info={"network_id": self.public_network()}
        )
        path = f"/routers/{router['id']}"
        port = {"subnet_id": subnet["id"]}
        self.api.call("PUT", "network", f"{path}/add_router_interface", port)
        self._made.append(("network", f"{path}/remove_router_interface/{subnet['id']}"))
        group = self.make("network", "security-groups", name=name)
        rule = {"direction": "ingress", "ethertype": "IPv4", "security_group_id": group["id"]}
        self.make("network", "security-group-rules", **rule)
        return network | {"group": group["id"]}

    def public_network(self) -> str:
        """The id of the network of the floating IPs."""
        identifier: str = self.api.find("network", "networks", "public")["id"]
        return identifier

    def server(
        self, network: Any, name: str, image: str = "busybox", flavor: str = "tiny"
    ) -> tuple[Any, str]:
        """A server with a floating IP: itself as it was asked for, and the address."""
        images = self.api.get("image", "/images", name=image)["images"]
        flavors = {one["name"]: one["id"] for one in self.api.get("compute", "/flavors")["flavors"]}
        port = self.make(
            "network", "ports", name=name, network_id=network["id"], security_groups=[network["group"]]
        )
        server = self.make(
            "compute",
            "servers",
            name=name,
            imageRef=images[0]["id"],
            flavorRef=flavors[flavor],
            networks=[{"port": port["id"]}],
        )
        address = self.make(
            "network", "floatingips", floating_network_id=self.public_network(), port_id=port["id"]
        )
        return server, address["floating_ip_address"]

    def wait_active(self, server: Any) -> None:
        """Until the server runs."""

        def is_active() -> bool:
            status = self.api.get("compute", f"/servers/{server['id']}")["server"]["status"]
            assert status != "ERROR", f"server {server['id']} is in ERROR"
            return bool(status == "ACTIVE")

        wait_for(f"server {server['id']}", is_active, ACTIVE_LIMIT_S)

    def remove_all(self) -> None:
        """Remove what was made, the last first."""
        while self._made:
            service, path = self._made.pop()
            if "/remove_router_interface/" in path:
                path, _, subnet = path.rpartition("/")
                with contextlib.suppress(ApiError):
                    self.api.call("PUT", service, path, {"subnet_id": subnet})
                continue
            with contextlib.suppress(ApiError):
                self.api.call("DELETE", service, path)
            if service == "compute":
                wait_for(f"the end of {path}", partial(self._is_gone, path), 90)

    def _is_gone(self, path: str) -> bool:
        try:
            self.api.get("compute", path)
        except ApiError as e:
            return e.status == 404
        return False


@contextlib.contextmanager
def tenant_of(lab: Lab, cloud: str = "lab") -> Iterator[Tenant]:
    """A user of the cloud; what was made goes at the end."""
    tenant = Tenant(lab, cloud)
    try:
        yield tenant
    finally:
        tenant.remove_all()


@contextlib.contextmanager
def neighbour_of_this_host(lab: Lab) -> Iterator[str]:
    """The address of another host, with a web server on port 8080, which knows the way back to the lab."""
    name, here, there = f"{lab.name}-n"[:15], "198.19.253.1", "198.19.253.2"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{here}/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "route", "add", "default", "via", here)
        serve = [
            "ip",
            "netns",
            "exec",
            name,
            sys.executable,
            "-m",
            "http.server",
            "8080",
            "--directory",
            "/sys",
        ]
        with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for("the other host's page", lambda: bool(read_page(there, "")), ANSWER_LIMIT_S)
                yield there
            finally:
                server.kill()
    finally:
        ip("netns", "del", name)


def read_page(address: str, path: str) -> str:
    """What a busybox instance's HTTP server answers; empty as long as it does not."""
    try:
        with _DIRECT.open(f"http://{address}:8080/{path}", timeout=2) as answer:
            text: str = answer.read().decode().strip()
            return text
    except OSError:
        return ""


def run_lab(*words: str, check: bool = True) -> str:
    """What the lab's command printed."""
    result = subprocess.run([str(COMMAND), *words], capture_output=True, text=True, check=False, timeout=900)
    assert not check or result.returncode == 0, f"lab {' '.join(words)}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def say(text: str) -> None:
    """For the log of a test's run."""
    print(f"lab: {text}", flush=True)
