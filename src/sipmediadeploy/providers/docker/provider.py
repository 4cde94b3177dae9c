"""Replicas as containers on one machine's Docker Engine."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Ulimit

from sipmediadeploy.protocol.replica import PATH, GatewayService, ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import FloatingIp, Life, ProviderError, ReplicaRecord
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.engine import (
    REQUEST_TIMEOUT_S,
    SOCKET,
    KeptClient,
    connect,
    in_thread,
    reason,
)
from sipmediadeploy.providers.docker.lease import DockerLeaseStore
from sipmediadeploy.providers.docker.network import find_network
from sipmediadeploy.stack import Limits, Role, Stack

_INVENTORY_TIMEOUT_S = 10.0
_CHANGE_TIMEOUT_S = 90.0
_STOP_GRACE_S = 5
_CPU_PERIOD_US = 100_000

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID")
"""What a root supervisor needs to run, write for, and stop services that have users of their own."""
VRRP_CAPABILITIES = ("NET_ADMIN", "NET_RAW")
"""What keepalived needs to hold an address and announce it, in the container's own network namespace."""

_LIVES = {
    "created": Life.STARTING,
    "restarting": Life.STARTING,
    "running": Life.RUNNING,
    # A frozen replica may have calls that go on when it thaws: its health probes speak for it.
    "paused": Life.RUNNING,
}


@dataclass(frozen=True, slots=True)
class DockerProvider:
    """Makes, lists and deletes the containers of one stack. Implements ``providers.base.Provider``."""

    stack: str
    image_version: str
    service_addresses: bool = True
    api_floating_ip: bool = False
    zones: tuple[str, ...] = ()
    engine: KeptClient = field(default_factory=partial(KeptClient, int(_INVENTORY_TIMEOUT_S)), compare=False)
    """For the inventory."""

    async def floating_ips(self) -> list[FloatingIp]:
        """None: published ports are mapped for good by a container of their own."""
        return []

    async def make_floating_ip(self, role: Role, to: str) -> None:
        """See ``Provider.make_floating_ip``."""
        raise ProviderError(f"Docker has no floating IPs: none of {role} can be mapped to {to}")

    async def map_floating_ip(self, address: IPv4Address, to: str) -> None:
        """See ``Provider.map_floating_ip``."""
        raise ProviderError(f"Docker has no floating IPs: {address} can't be mapped to {to}")

    async def inventory(self) -> list[ReplicaRecord]:
        """All replicas of the stack, exited and paused ones included; see ``Provider.inventory``."""
        return await in_thread(f"inventory of stack {self.stack}", _INVENTORY_TIMEOUT_S, self._inventory)

    async def create(self, document: ReplicaDocument, limits: Limits, zone: str = "") -> ReplicaRecord:
        """Make and start one replica; see ``Provider.create``."""
        if zone:
            raise ProviderError(f"replica {document.name}: one machine has no zone {zone}")
        what = f"replica {document.name}"
        return await in_thread(what, _CHANGE_TIMEOUT_S, lambda: self._create(document, limits))

    async def delete(self, replica_id: str) -> None:
        """Stop and remove a replica; see ``Provider.delete``."""
        what = f"deleting {replica_id[:12]}"
        await in_thread(what, _CHANGE_TIMEOUT_S, lambda: self._delete(replica_id))

    def lease(self) -> DockerLeaseStore:
        """See ``Provider.lease``."""
        return DockerLeaseStore(self.stack, self.image_version)

    def close(self) -> None:
        """See ``Provider.close``; each request to the engine has a connection of its own."""

    def _inventory(self) -> list[ReplicaRecord]:
        wanted = [f"{labels.STACK}={self.stack}", f"{labels.KIND}={labels.REPLICA}"]
        listed = self.engine.get().api.containers(all=True, filters={"label": wanted})
        records = (_record(one["Id"], one["Labels"], one["State"]) for one in listed)
        return sorted((record for record in records if record is not None), key=lambda record: record.name)

    def _create(self, document: ReplicaDocument, limits: Limits) -> ReplicaRecord:
        if document.stack != self.stack:
            raise ProviderError(f"replica {document.name} is of stack {document.stack}, not of {self.stack}")
        with contextlib.closing(connect(REQUEST_TIMEOUT_S)) as client:
            if find_network(client, self.stack) is None:
                raise ProviderError(f"the Docker network of stack {self.stack} is missing: smd up makes it")
            container = self._create_container(client, document, limits)
            try:
                client.api.put_archive(container, "/", document_archive(document))
                client.api.start(container)
                attrs = client.api.inspect_container(container)
            except BaseException as e:
                _remove(client, container)
                if isinstance(e, APIError) and "already in use" in reason(e).lower():
                    raise ProviderError(
                        f"replica {document.name}: its address {document.address} is in use by another "
                        f"container in {labels.network_name(self.stack)}"
                    ) from None
                raise
            record = _record(container, attrs["Config"]["Labels"], attrs["State"]["Status"])
            if record is None:
                raise ProviderError(f"replica {document.name}: the engine lost its labels")
            return record

    def _create_container(
        self, client: docker.DockerClient, document: ReplicaDocument, limits: Limits
    ) -> str:
        api = client.api
        name = labels.container_name(self.stack, document.name)
        image = labels.image_name(document.role, self.image_version)
        network = labels.network_name(self.stack)
        endpoint = api.create_endpoint_config(ipv4_address=str(document.address))
        marks = container_labels(document, self.image_version, time.time())
        try:
            created: dict[str, Any] = api.create_container(
                image,
                name=name,
                hostname=document.name[:63],
                labels=marks,
                host_config=api.create_host_config(**host_options(document, limits)),
                networking_config={"EndpointsConfig": {network: endpoint}},
            )
        except ImageNotFound:
            raise ProviderError(
                f"replica {document.name}: image {image} is missing: smd up builds it"
            ) from None
        except APIError as e:
            if e.status_code == 409:
                raise ProviderError(
                    f"replica {document.name}: a container named {name} is there already"
                ) from None
            raise
        except requests.RequestException:
            _remove_if_ours(client, name, marks)  # the answer was lost; the container may be there
            raise
        return str(created["Id"])

    def _delete(self, replica_id: str) -> None:
        with contextlib.closing(connect(REQUEST_TIMEOUT_S)) as client:
            try:
                attrs = client.api.inspect_container(replica_id)
            except NotFound:
                return
            if (attrs["Config"].get("Labels") or {}).get(labels.STACK) != self.stack:
                raise ProviderError(f"container {replica_id[:12]} is not of stack {self.stack}: left alone")
            stop_and_remove(client, attrs["Id"])


def make_provider(stack: Stack, version: str, _secrets: Secrets) -> DockerProvider:
    """See ``providers.base.MakeProvider``."""
    return DockerProvider(stack.name, version)


def container_labels(document: ReplicaDocument, version: str, now: float) -> dict[str, str]:
    """The labels of a replica's container: all that the inventory knows of it."""
    return {
        labels.STACK: document.stack,
        labels.KIND: labels.REPLICA,
        labels.ROLE: str(document.role),
        labels.SLOT: str(document.slot),
        labels.NAME: document.name,
        labels.ADDRESS: str(document.address),
        labels.CONFIG_HASH: document.service_hash(),
        labels.VERSION: version,
        labels.CREATED: f"{now:.6f}",
    }


def host_options(document: ReplicaDocument, limits: Limits) -> dict[str, Any]:
    """How a replica's container is confined: limits, capabilities, mounts (arguments of a host config)."""
    vrrp = document.vrrp is not None
    memory = limits.memory_mib * 1024 * 1024
    service = document.service
    calls = service.capacity if isinstance(service, GatewayService) else 0
    options: dict[str, Any] = {
        "cap_drop": ["ALL"],
        "cap_add": [*CAPABILITIES, *(VRRP_CAPABILITIES if vrrp else ())],
        "security_opt": ["no-new-privileges"],
        "cpu_period": _CPU_PERIOD_US,
        "cpu_quota": int(limits.cpus * _CPU_PERIOD_US),
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": 512 + 96 * calls,
        "ulimits": [Ulimit(name="core", soft=0, hard=0)],
        "restart_policy": {"Name": "unless-stopped"},
        # A stale pid file of a killed container must not be there at the next start.
        "tmpfs": {"/run": "rw,noexec,nosuid,nodev,mode=755,size=64m", "/tmp": "rw,nosuid,nodev,size=64m"},  # noqa: S108
        "sysctls": {"net.ipv4.ip_nonlocal_bind": "1"} if vrrp else {},
        "log_config": LogConfig(type=LogConfig.types.JSON, config={"max-size": "5m", "max-file": "3"}),
    }
    if document.role is Role.SCALER:
        options["binds"] = [f"{SOCKET}:/run/docker.sock"]
    return options


def document_archive(document: ReplicaDocument) -> bytes:
    """A tar archive that puts the document where the agent reads it: mode 0600, root's."""
    data = document.to_yaml().encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo(str(PATH.parent).lstrip("/"))
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        info = tarfile.TarInfo(str(PATH).lstrip("/"))
        info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def stop_and_remove(client: docker.DockerClient, container: str) -> None:
    """Stop a container, which lets it give up its address in order, and remove it with its volumes."""
    try:
        client.api.stop(container, timeout=_STOP_GRACE_S)
    except NotFound:
        return
    except APIError:
        pass  # the forced removal below tells what is wrong, if it fails too
    try:
        client.api.remove_container(container, v=True, force=True)
    except NotFound:
        return
    except APIError as e:
        if e.status_code != 409:  # 409: somebody else's removal of it is under way
            raise


def _remove(client: docker.DockerClient, container: str) -> None:
    with contextlib.suppress(DockerException, requests.RequestException):
        client.api.remove_container(container, v=True, force=True)


def _remove_if_ours(client: docker.DockerClient, name: str, marks: Mapping[str, str]) -> None:
    with contextlib.suppress(DockerException, requests.RequestException):
        attrs = client.api.inspect_container(name)
        if attrs["Config"]["Labels"].get(labels.CREATED) == marks[labels.CREATED]:
            _remove(client, attrs["Id"])


def _record(container: str, marks: Mapping[str, str], state: str) -> ReplicaRecord | None:
    """The record of a container; None when its labels are not a replica's."""
    try:
        return ReplicaRecord(
            id=container,
            name=marks[labels.NAME],
            role=Role(marks[labels.ROLE]),
            slot=int(marks[labels.SLOT]),
            address=IPv4Address(marks[labels.ADDRESS]),
            life=_LIVES.get(state, Life.STOPPED),
            created_at=float(marks[labels.CREATED]),
            config_hash=marks[labels.CONFIG_HASH],
            version=marks[labels.VERSION],
        )
    except (KeyError, ValueError):
        return None
