"""Plain Debian servers in the cloud, with what an operator has: an inventory, a stack file, an SSH key."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.images.build import ensure_images
from sipmediadeploy.providers.docker.engine import ensure_engine
from tests.harness.openstack.settings import Lab
from tests.harness.playbook import GATEWAY, LAST_BYTES, SERVICE_BYTES, SSH, write_inventory, write_stack
from tests.harness.running import RunningStack, eventually
from tests.lab.openstack import host, images, instances
from tests.lab.openstack.package_proxy import package_proxy
from tests.lab.openstack.running import running_lab
from tests.lab.openstack.tenants import Tenant, say, tenant_of

_PREFIX = "10.99.0"
_FLAVORS = {GATEWAY: "b2-7"}
"""Where another one than the smallest with systemd: a gateway's packages need more than 1 GB."""


_UP_S = 180.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The servers."""

    lab: Lab
    directory: Path
    """Where the operator works."""
    ids: dict[str, str]
    """Of the servers, by host."""
    public: dict[str, str]
    """The floating IPs of the service addresses, by pool."""

    def run(self, name: str, command: str) -> str:
        """What a shell command prints that is run on a server, as root."""
        leader = instances.find_instance(self.lab, host.running(self.lab), self.ids[name])
        done = subprocess.run(
            host.enter_command(leader, ["sh", "-c", command]),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout + done.stderr

    def caller(self) -> RunningStack:
        """For terminals on this host, which ``smd call --to`` starts in the gateway's image."""
        ensure_images(ensure_engine(say), say)
        directory = self.directory / "caller"
        directory.mkdir(exist_ok=True)
        file = directory / "stack.yaml"
        file.write_text("name: caller\ndomain: sip.example.org\nprovider: openstack\n")
        return RunningStack("caller", file, "")


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The servers as they are before anything was done to them."""
    for program in ("ssh", "tinyproxy"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: ./smd host-packages lab-builds")
    directory = tmp_path_factory.mktemp("operator")
    public_key = write_stack(directory).with_suffix(".pub").read_text().strip()
    with running_lab() as lab:
        images.ensure_debian(lab, say)
        with tenant_of(lab) as tenant, package_proxy(lab) as proxy:
            yield _make(lab, tenant, directory, _user_data(public_key, proxy))


def _make(lab: Lab, tenant: Tenant, directory: Path, user_data: str) -> Fleet:
    # The cloud takes what it needs itself from elsewhere than the replicas' and the service addresses.
    others = {"start": f"{_PREFIX}.240", "end": f"{_PREFIX}.250"}
    network = tenant.network("servers", allocation_pools=[others])
    service = {pool: f"{_PREFIX}.{last}" for pool, last in SERVICE_BYTES.items()}
    public = {
        pool: _floating_ip(tenant, _port(tenant, network, address)) for pool, address in service.items()
    }
    servers: dict[str, Any] = {}
    hosts: dict[str, dict[str, str]] = {}
    for name, last in LAST_BYTES.items():
        pool, address = name.rsplit("-", 1)[0], f"{_PREFIX}.{last}"
        pairs = [{"ip_address": service[pool]}] if pool in service else []
        port = _port(tenant, network, address, allowed_address_pairs=pairs)
        servers[name] = _server(tenant, name, port, user_data)
        reached = _floating_ip(tenant, port)
        hosts[name] = {"ansible_host": reached, "smd_address": address}
        if name == GATEWAY:
            hosts[name]["smd_public_address"] = reached
    for server in servers.values():
        tenant.wait_active(server)
    for name, variables in hosts.items():
        eventually(partial(_is_up, directory, variables["ansible_host"]), _UP_S, f"{name} is up", every=1)
    write_inventory(directory, _PREFIX, hosts, smd_public_addresses=public)
    return Fleet(lab, directory, {name: str(server["id"]) for name, server in servers.items()}, public)


def _is_up(directory: Path, address: str) -> bool:
    ssh = ["ssh", *SSH.split(), "-o", "ConnectTimeout=5", "-o", "BatchMode=yes", "-i", str(directory / "key")]
    done = subprocess.run(
        [*ssh, f"debian@{address}", "cloud-init", "status"], capture_output=True, check=False, timeout=30
    )
    return b"done" in done.stdout


def _port(tenant: Tenant, network: Any, address: str, **more: Any) -> Any:
    fixed = {"fixed_ips": [{"ip_address": address}], "security_groups": [network["group"]]}
    return tenant.make("network", "ports", network_id=network["id"], **fixed, **more)


def _floating_ip(tenant: Tenant, port: Any) -> str:
    made = tenant.make(
        "network", "floatingips", floating_network_id=tenant.public_network(), port_id=port["id"]
    )
    return str(made["floating_ip_address"])


def _server(tenant: Tenant, name: str, port: Any, user_data: str) -> Any:
    flavors = {one["name"]: one["id"] for one in tenant.api.get("compute", "/flavors")["flavors"]}
    (image,) = tenant.api.get("image", "/images", name="debian-12")["images"]
    return tenant.make(
        "compute",
        "servers",
        name=name,
        imageRef=image["id"],
        flavorRef=flavors[_FLAVORS.get(name, "d2-2")],
        networks=[{"port": port["id"]}],
        user_data=base64.b64encode(user_data.encode()).decode(),
    )


def _user_data(public_key: str, proxy: str) -> str:
    """What an operator of such a cloud gives all servers: a key, and how packages are reached."""
    apt = {"path": "/etc/apt/apt.conf.d/90proxy", "content": f'Acquire::http::Proxy "{proxy}";\n'}
    return "#cloud-config\n" + json.dumps({"ssh_authorized_keys": [public_key], "write_files": [apt]})
