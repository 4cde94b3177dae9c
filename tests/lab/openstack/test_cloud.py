"""What the lab gives to a tenant: instances in reach of this host, ports, quotas, and no admin's rights."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.openstack.settings import Lab, LabError
from tests.lab.openstack import images
from tests.lab.openstack.inside.api import Api, ApiError, wait_for
from tests.lab.openstack.inside.config import PUBLIC_BRIDGE
from tests.lab.openstack.tenants import (
    ANSWER_LIMIT_S,
    Tenant,
    neighbour_of_this_host,
    read_page,
    run_lab,
    say,
)


def wait_for_instance(name: str) -> None:
    """Until libvirt knows an instance's process, which may be after that has done something."""
    wait_for(name, lambda: "yes" in run_lab("instance", name, "echo", "yes", check=False), ANSWER_LIMIT_S)


def test_an_instance_answers_at_its_floating_ip_from_this_host(tenant: Tenant) -> None:
    network = tenant.network("answers")
    started = time.monotonic()
    server, address = tenant.server(network, "answers")
    tenant.wait_active(server)
    active = time.monotonic() - started
    wait_for("the instance's page", lambda: read_page(address, "id") == server["id"], ANSWER_LIMIT_S)
    say(f"instance active after {active:.1f} s, answers after {time.monotonic() - started:.1f} s")
    assert read_page(address, "name") == "answers"

    wait_for_instance("answers")
    assert server["id"] in run_lab("instance", "answers", "cat", "/www/id")
    assert "10.99.0." in run_lab("instance", server["id"], "ip", "-4", "addr")
    assert address in run_lab("exec", "openstack", "floating", "ip", "list", "-f", "value")
    tenant.remove_all()
    assert run_lab("exec", "pgrep", "-f", "libvirt_lxc", check=False) == ""


def test_an_instance_has_no_way_out(tenant: Tenant, lab: Lab) -> None:
    server, address = tenant.server(tenant.network("inside"), "inside")
    wait_for("the instance's page", lambda: read_page(address, "id") == server["id"], ANSWER_LIMIT_S)
    wait_for_instance("inside")
    ping = ("ping", "-c", "1", "-W", "2", str(lab.host_address))
    assert "1 packets received" in run_lab("instance", "inside", *ping)
    with neighbour_of_this_host(lab) as elsewhere:
        url = f"http://{elsewhere}:8080/"
        ask = ("instance", "inside", "timeout", "5", "wget", "-q", "-O", "-", url)
        assert "<html" not in run_lab(*ask, check=False)


def test_the_api_is_reached_while_ports_of_the_public_bridge_come_and_go(lab: Lab) -> None:
    def ask() -> None:
        socket.create_connection((str(lab.api_address), 5000), timeout=2).close()

    ask()
    lowest = ("address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "lowest-peer")
    run_lab("exec", "ip", "link", "add", "lowest", *lowest)
    try:
        run_lab("exec", "ip", "link", "set", "lowest", "master", PUBLIC_BRIDGE, "up")
        # Whoever asks for the bridge's hardware address now must be right when the port has gone.
        subprocess.run(["ip", "neigh", "flush", "to", str(lab.api_address)], check=True)
        ask()
    finally:
        run_lab("exec", "ip", "link", "del", "lowest")
    ask()


def test_of_eight_that_create_a_port_with_one_fixed_ip_exactly_one_succeeds(tenant: Tenant, lab: Lab) -> None:
    network = tenant.make("network", "networks", name="lease")
    subnet = tenant.make(
        *("network", "subnets"),
        **{"network_id": network["id"], "ip_version": 4, "cidr": "10.98.0.0/28", "enable_dhcp": False},
    )
    port = {
        "network_id": network["id"],
        "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "10.98.0.9"}],
    }

    def create(number: int) -> int:
        try:
            tenant.make("network", "ports", **port, description=f"contender {number}")
        except ApiError as e:
            return e.status
        return 201

    with ThreadPoolExecutor(8) as contenders:
        answers = sorted(contenders.map(create, range(8)))
    assert answers == [201] + [409] * 7
    (left,) = tenant.api.get("network", "/ports", network_id=network["id"])["ports"]
    assert left["fixed_ips"][0]["ip_address"] == "10.98.0.9"


def test_a_quota_that_is_reached_is_told(tenant: Tenant, admin: Api) -> None:
    tenant.api.get("network", "/networks")
    project = tenant.api.project_id
    network = tenant.make("network", "networks", name="quota")
    used = len(tenant.api.get("network", "/ports", project_id=project)["ports"])
    admin.call("PUT", "network", f"/quotas/{project}", {"quota": {"port": used + 1}})
    admin.call("PUT", "compute", f"/os-quota-sets/{project}", {"quota_set": {"instances": 0}})
    try:
        tenant.make("network", "ports", network_id=network["id"])
        with pytest.raises(ApiError) as refused:
            tenant.make("network", "ports", network_id=network["id"])
        assert refused.value.status == 409
        assert "OverQuota" in str(refused.value)
        with pytest.raises(ApiError) as refused:
            tenant.server(
                network | {"group": tenant.make("network", "security-groups", name="q")["id"]}, "quota"
            )
        assert refused.value.status in {403, 409}
    finally:
        admin.call("DELETE", "network", f"/quotas/{project}")
        admin.call("DELETE", "compute", f"/os-quota-sets/{project}")


@pytest.mark.parametrize(
    ("service", "path", "body"),
    [
        ("compute", "/flavors", {"flavor": {"name": "mine", "ram": 64, "vcpus": 1, "disk": 1}}),
        ("identity", "/projects", {"project": {"name": "mine", "domain_id": "default"}}),
        ("network", "/networks", {"network": {"name": "mine", "router:external": True}}),
        ("image", "/images", {"name": "mine", "visibility": "public"}),
    ],
    ids=["flavor", "project", "external network", "public image"],
)
def test_the_tenant_is_no_admin(tenant: Tenant, service: str, path: str, body: object) -> None:
    with pytest.raises(ApiError) as refused:
        tenant.api.call("POST", service, path, body)
    assert refused.value.status == 403


def test_a_debian_server_takes_its_user_data(tenant: Tenant, lab: Lab) -> None:
    name = images.ensure_debian(lab, say)
    assert name
    network = tenant.network("debian")
    started = time.monotonic()
    server, address = tenant.server(network, "debian", image="debian-12", flavor="d2-2")
    tenant.wait_active(server)
    say(f"Debian active after {time.monotonic() - started:.1f} s")

    def is_done() -> bool:
        return "status: done" in run_lab("instance", "debian", "cloud-init", "status", check=False)

    wait_for("cloud-init", is_done, ANSWER_LIMIT_S, pause_s=1)
    say(f"cloud-init is done after {time.monotonic() - started:.1f} s")
    assert run_lab("instance", "debian", "cat", "/proc/1/comm").strip() == "systemd"
    assert run_lab("instance", "debian", "hostname").strip() == "debian"
    keys = subprocess.run(["ssh-keyscan", "-T", "5", address], capture_output=True, text=True, check=False)
    assert "ssh-ed25519" in keys.stdout


def test_a_root_file_system_that_starts_nothing_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with pytest.raises(LabError, match="has no /sbin/init"):
        images.upload_root(lab, say, tmp_path, "nothing")


def test_no_secret_is_in_a_process_list_or_a_log(lab: Lab) -> None:
    cloud = json.loads((lab.state / "cloud.json").read_text())
    lines = Path("/proc").glob("[0-9]*/cmdline")
    texts = [path.read_bytes() for path in [*lines, *(lab.state / "log").iterdir()] if path.exists()]
    for name, secret in cloud["secrets"].items():
        assert not any(secret.encode() in text for text in texts), f"the secret {name} can be read"
    for path in (lab.clouds, lab.state / "cloud.json"):
        assert path.stat().st_mode & 0o077 == 0
