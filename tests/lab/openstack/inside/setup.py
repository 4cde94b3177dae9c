"""Fills the cloud through its APIs: ``python3 -m …setup users|cloud|wait|image NAME [KEY=VALUE…]``.

What is there is left as it is, but for an image (its content on standard input), which replaces older ones.
"""

from __future__ import annotations

import calendar
import os
import sys
import time
from typing import Any, BinaryIO

from tests.lab.openstack.inside.api import Api, ApiError, wait_for
from tests.lab.openstack.inside.busybox import IMAGE
from tests.lab.openstack.inside.config import REGION, SERVICE_TYPES, STARTED, Cloud
from tests.lab.openstack.inside.init import read_cloud

FLAVORS = {"tiny": (64, 1, 1), "d2-2": (512, 1, 1), "b2-7": (1024, 2, 2)}
"""Name: memory in MiB, CPUs, disk in GB."""
_AGENTS = {f"neutron-{name}-agent" for name in ("linuxbridge", "l3", "dhcp", "metadata")}
_LIMIT_S = 180


def make_users(api: Api, cloud: Cloud) -> None:
    """The services' users and endpoints, and the tenant ``lab``."""
    roles = {role["name"]: role["id"] for role in api.get("identity", "/roles")["roles"]}
    if "service" not in roles:
        created = api.call("POST", "identity", "/roles", {"role": {"name": "service"}})
        roles["service"] = created["role"]["id"]
    services = _ensure(api, "project", "service", domain_id="default")
    for user, (kind, path) in SERVICE_TYPES.items():
        made = _ensure(api, "user", user, domain_id="default", password=cloud.secrets["service"])
        for role in ("admin", "service"):
            _grant(api, services, made, roles[role])
        service = _ensure(api, "service", user, type=kind)
        have = {
            item["interface"] for item in api.get("identity", "/endpoints", service_id=service)["endpoints"]
        }
        for interface in {"public", "internal", "admin"} - have:
            url = f"{cloud.url(kind)}{path}"
            endpoint = {"service_id": service, "interface": interface, "url": url, "region_id": REGION}
            api.call("POST", "identity", "/endpoints", {"endpoint": endpoint})
    tenant = _ensure(api, "project", "lab", domain_id="default")
    user_id = _ensure(api, "user", "lab", domain_id="default", password=cloud.secrets["lab"])
    _grant(api, tenant, user_id, roles["member"])


def make_cloud(api: Api, cloud: Cloud) -> None:
    """Flavours, the smallest image and the public network."""
    have = {flavor["name"] for flavor in api.get("compute", "/flavors")["flavors"]}
    for name, (ram, vcpus, disk) in FLAVORS.items():
        if name not in have:
            flavor = {"name": name, "ram": ram, "vcpus": vcpus, "disk": disk}
            api.call("POST", "compute", "/flavors", {"flavor": flavor})
    if api.find("network", "networks", "public") is None:
        network = {
            "name": "public",
            "router:external": True,
            "provider:network_type": "flat",
            "provider:physical_network": "public",
        }
        made = api.call("POST", "network", "/networks", {"network": network})["network"]["id"]
        first, last = cloud.floating
        subnet = {
            "name": "public",
            "network_id": made,
            "ip_version": 4,
            "cidr": cloud.network,
            "gateway_ip": cloud.gateway,
            "enable_dhcp": False,
            "allocation_pools": [{"start": first, "end": last}],
        }
        api.call("POST", "network", "/subnets", {"subnet": subnet})
    with IMAGE.open("rb") as content:
        upload_image(api, "busybox", content)


def upload_image(api: Api, name: str, content: BinaryIO, **properties: str) -> str:
    """Make a public image of a raw disk's file; older ones of that name go. Its id.

    One that has the same ``properties``, which then tell what is in it, is left as it is. An image whose
    upload was interrupted has that name too, and no content: it goes as well.
    """
    before = api.get("image", "/images", name=name)["images"]
    for old in before:
        if properties and old["status"] == "active" and properties.items() <= old.items():
            return str(old["id"])
    image = {
        "name": name,
        "disk_format": "raw",
        "container_format": "bare",
        "visibility": "public",
        "hw_architecture": "x86_64",
        **properties,
    }
    made: str = api.call("POST", "image", "/images", image)["id"]
    api.upload(f"/images/{made}/file", content, os.fstat(content.fileno()).st_size)
    for old in before:
        api.call("DELETE", "image", f"/images/{old['id']}")
    return made


def wait_until_whole(api: Api) -> None:
    """Wait for the compute host and all agents to have reported since the lab started."""
    started = STARTED.stat().st_mtime

    def agents() -> bool:
        found = api.get("network", "/agents")["agents"]
        alive = {
            one["binary"] for one in found if one["alive"] and _stamp(one["heartbeat_timestamp"]) > started
        }
        return alive >= _AGENTS

    def compute() -> bool:
        services = api.get("compute", "/os-services", binary="nova-compute")["services"]
        return any(one["state"] == "up" and _stamp(one["updated_at"]) > started for one in services)

    # The questions take time from those that they ask about.
    wait_for("Neutron's agents", agents, _LIMIT_S, pause_s=0.5)
    wait_for("nova-compute", compute, _LIMIT_S, pause_s=0.5)
    wait_for("a hypervisor", lambda: bool(api.get("compute", "/os-hypervisors")["hypervisors"]), _LIMIT_S)


def _stamp(text: str | None) -> float:
    """Seconds since the epoch of a time in UTC as Nova (2026-01-02T03:04:05.0) and Neutron write it."""
    if not text:
        return 0
    return calendar.timegm(time.strptime(text[:19].replace("T", " "), "%Y-%m-%d %H:%M:%S"))


def _ensure(api: Api, kind: str, name: str, **values: Any) -> str:
    """The id of Keystone's user, project or service of that name, which is made when it is not there."""
    found = api.find("identity", f"{kind}s", name)
    if found is None:
        found = api.call("POST", "identity", f"/{kind}s", {kind: {"name": name, **values}})[kind]
    identifier: str = found["id"]
    return identifier


def _grant(api: Api, project: str, user: str, role: str) -> None:
    api.call("PUT", "identity", f"/projects/{project}/users/{user}/roles/{role}")


def main() -> None:
    """One of the three steps, as the cloud's admin."""
    cloud = read_cloud()
    api = Api(cloud.address, "admin", cloud.secrets["admin"], "admin")
    step = sys.argv[1]
    if step == "users":
        make_users(api, cloud)
    elif step == "cloud":
        make_cloud(api, cloud)
    elif step == "image":
        properties = dict(word.split("=", 1) for word in sys.argv[3:])
        print(upload_image(api, sys.argv[2], sys.stdin.buffer, **properties))
    else:
        wait_until_whole(api)


if __name__ == "__main__":
    try:
        main()
    except (ApiError, TimeoutError) as e:
        sys.exit(str(e))
