"""A stack on the lab as its operator runs it, and what can break in a cloud, done for real."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import reached
from sipmediadeploy.cli.view import as_data
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud, Service, read_credentials
from sipmediadeploy.stack import Role
from tests.harness import terraform
from tests.harness.openstack.settings import Lab, LabError
from tests.harness.running import LAST_LINES, RunningStack, eventually, run
from tests.lab.openstack import host, instances

_ANSWER_S = 120.0
_DEPLOY_S = 1500.0
_DESTROY_S = 300.0
_LOGS_S = 60.0


@dataclass(frozen=True, slots=True)
class CloudStack(RunningStack):
    """One stack on the lab. Callers are on this host, outside of the cloud."""

    lab: Lab
    cloud: Cloud = field(repr=False)
    admin: Cloud = field(repr=False)
    by_terraform: Path | None = None
    """Where Terraform works that makes what it stands on; None: ``smd`` makes that."""

    def deploy(self, *options: str) -> str:
        """Bring it up as one command does; what that says."""
        where = self.by_terraform
        way = ("terraform", "--terraform-dir", str(where)) if where is not None else ("smd",)
        return self.smd("deploy", "--yes", "--foundation", *way, *options, timeout=_DEPLOY_S)

    def plan(self) -> str:
        """What Terraform would change, in its words; it changes nothing when there is nothing to change."""
        return run(*self._terraform("plan", "-detailed-exitcode"), timeout=_DESTROY_S)

    def remove(self) -> str:
        """Remove all of it, as its operator does; what the command says."""
        if self.by_terraform is not None and (self.by_terraform / "terraform.tfstate").exists():
            return run(*self._terraform("destroy", "-auto-approve"), timeout=_DESTROY_S)
        return self.smd("down", "--foundation")

    def _terraform(self, *words: str) -> list[str]:
        return [terraform.TOOL, f"-chdir={self.by_terraform}", words[0], "-no-color", *words[1:]]

    def status(self) -> dict[str, Any]:
        """What ``smd status --json`` prints; there is nobody to ask until a scaler leads.

        The API's address is looked up by the one connection to the cloud that the test has anyway.
        """
        said: list[str] = []

        def answered() -> dict[str, Any] | None:
            try:
                with reached(Place(self.stack_file), self._api(), "the status") as running:
                    return as_data(running.stack, asyncio.run(running.look()))
            except (CommandError, ProviderError) as e:
                said[:] = [str(e)]
                return None

        try:
            return eventually(answered, _ANSWER_S, "the scalers' API answers", every=1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {said}") from None

    def _api(self) -> str:
        mark = marks.service_mark(self.name, Role.SCALER)
        for ip in self.all("network", "/floatingips", "floatingips", description=mark):
            return str(ip["floating_ip_address"])
        raise CommandError("the scalers have no floating IP yet")

    def floating_ip(self, role: str) -> str:
        """The public address of a pool."""
        return str(self.status()["floating_ips"][role])

    def client_address(self, index: int) -> str:
        """Callers are this host, which has one address on the public network."""
        return str(self.lab.host_address)

    def client_prefix(self, name: str, address: str, *mounts: Path) -> list[str]:
        """The words that run a command of the test image on this host's network."""
        words = [
            "docker",
            "run",
            "--rm",
            "-i",
            "--init",
            "--name",
            f"{self.name}-{name}",
            "--network",
            "host",
        ]
        for mount in mounts:
            words += ["--volume", f"{mount}:{mount}"]
        return [*words, self.test_image]

    # What breaks.

    def processes(self, replica: dict[str, Any]) -> list[int]:
        """All processes of a replica's server, by their numbers on this host; its first one comes first."""
        first = instances.find_instance(self.lab, host.running(self.lab), str(replica["id"]))
        space = Path(f"/proc/{first}/ns/pid").readlink()
        others = [pid for pid in host.processes(self.lab) if pid != first and _is_in(pid, space)]
        return [first, *others]

    def kill(self, replica: dict[str, Any]) -> None:
        """Its power fails."""
        os.kill(self.processes(replica)[0], signal.SIGKILL)

    def hang(self, replica: dict[str, Any]) -> None:
        """It is there, holds its addresses, and does nothing any more."""
        for pid in self.processes(replica):
            os.kill(pid, signal.SIGSTOP)

    def delete(self, replica: dict[str, Any]) -> None:
        """Somebody deletes its server by hand."""
        self.cloud.delete("deleting a server", "compute", f"/servers/{replica['id']}")

    def into_error(self, replica: dict[str, Any]) -> None:
        """The cloud shows its server in ERROR, as after a failure of its host."""
        order = {"os-resetState": {"state": "error"}}
        self.admin.post("an error", "compute", f"/servers/{replica['id']}/action", order)

    def detach_floating_ip(self, role: str) -> None:
        """Somebody takes a pool's floating IP from its port by hand."""
        (ip,) = self._floating_ips(self.floating_ip(role))
        self.cloud.put(
            "a floating IP", "network", f"/floatingips/{ip['id']}", {"floatingip": {"port_id": None}}
        )

    def is_attached(self, address: str) -> bool:
        """Whether a floating IP is mapped to a port."""
        return all(ip["port_id"] for ip in self._floating_ips(address))

    def mapped_to(self, address: str) -> str:
        """The id of the server to whose port a floating IP is mapped; that of a service address has none."""
        (ip,) = self._floating_ips(address)
        ports = self.all("network", "/ports", "ports", id=ip["port_id"]) if ip["port_id"] else []
        return str(ports[0]["device_id"]) if ports else ""

    def in_instance(self, replica: dict[str, Any], *words: str) -> str:
        """What a command prints that is run on a replica's server, as root."""
        leader = instances.find_instance(self.lab, host.running(self.lab), str(replica["id"]))
        done = subprocess.run(
            host.enter_command(leader, list(words)), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (
            f"{replica['name']}: {words}: {done.returncode} {done.stdout}{done.stderr}"
        )
        return done.stdout

    def last_lines(self) -> dict[str, str]:
        """What each replica's journal ends with, by name: for the reader of a failed test."""
        words = ("journalctl", "--no-pager", "-o", "cat", "-n", str(LAST_LINES))
        servers = [one for one in self.all(*_KINDS[0]) if self._is_mine(one)]
        until = time.monotonic() + _LOGS_S
        logs = {}
        for server in servers:
            try:
                assert time.monotonic() < until, "no time is left for it"
                logs[str(server["name"])] = self.in_instance(server, *words)
            except (AssertionError, LabError, OSError, subprocess.SubprocessError) as e:
                logs[str(server["name"])] = f"its journal can't be read: {e}"
        return logs

    # What is in the cloud.

    def remove_images(self, roles: Sequence[Role]) -> None:
        """Remove all images of these roles, whoever made them."""
        for role in roles:
            name = f"smd-{role}"
            for one in self.admin.all("the test looks", "image", "/images", "images", {"name": name}):
                self.admin.delete("removing an image", "image", f"/images/{one['id']}")

    def images(self) -> dict[str, Path]:
        """The files of the roles' images, as Glance keeps them, by role and id."""
        store = host.state_of(host.running(self.lab)) / "images"
        found = self.all("image", "/images", "images")
        return {f"{one['smd_role']} {one['id']}": store / one["id"] for one in found if "smd_role" in one}

    def all(self, service: Service, path: str, key: str, **query: object) -> list[Body]:
        """What the tenant sees."""
        return list(self.cloud.all("the test looks", service, path, key, query))

    def left(self) -> list[str]:
        """What the cloud has of the stack, by name or by mark: kind and name of each."""
        return sorted(
            f"{kind} {one.get('name') or one['id']}"
            for service, path, kind in _KINDS
            for one in self.all(service, path, kind)
            if self._is_mine(one)
        )

    def _is_mine(self, one: Body) -> bool:
        said = (
            one.get("name") or "",
            one.get("description") or "",
            (one.get("metadata") or {}).get(marks.STACK),
        )
        return any(self.name in str(word) for word in said)

    def wait_gone(self, replica: dict[str, Any], timeout: float) -> None:
        """Until the scaler has replaced a replica."""
        eventually(
            lambda: replica["id"] not in {one["id"] for one in self.status()["replicas"]},
            timeout,
            f"{replica['name']} is replaced",
            every=1,
        )

    def _floating_ips(self, address: str) -> list[Body]:
        return self.all("network", "/floatingips", "floatingips", floating_ip_address=address)


_KINDS: tuple[tuple[Service, str, str], ...] = (
    ("compute", "/servers/detail", "servers"),
    ("compute", "/os-server-groups", "server_groups"),
    ("network", "/floatingips", "floatingips"),
    ("network", "/ports", "ports"),
    ("network", "/networks", "networks"),
    ("network", "/subnets", "subnets"),
    ("network", "/routers", "routers"),
    ("network", "/security-groups", "security_groups"),
)


def _is_in(pid: int, space: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() == space
    except OSError:  # it has ended
        return False


def connect_as(name: str) -> Cloud:
    """A connection to the lab as one of the users of its clouds.yaml."""
    credentials = read_credentials(name)
    return Cloud(lambda: credentials, timeout_s=60.0)
