"""The publish helper: the one container in the host's network namespace; it maps ports to a stack."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import LogConfig

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.engine import reason
from sipmediadeploy.providers.docker.network import StackNetwork, local_addresses
from sipmediadeploy.providers.docker.publish_rules import (
    Listener,
    forwards,
    parse_listeners,
    refuse_conflicts,
    ruleset,
    table_name,
)
from sipmediadeploy.stack import Role, Stack

_ADDRESS_LABEL = "smd.publish"
_SCRIPT = Path(__file__).with_name("publish.sh")
_READY_TIMEOUT_S = 20.0
_STOP_GRACE_S = 10


def ensure_published(client: docker.DockerClient, stack: Stack, network: StackNetwork, version: str) -> None:
    """Make the host's ports lead to the stack if, and only if, it has ``publish``. Blocking; repeatable.

    Raises:
        ProviderError: the address is not this host's, a port is taken, or the map can't be installed.
    """
    if stack.publish is None:
        remove_published(client, stack.name)
        return
    rules = ruleset(stack, network.subnet, network.bridge)
    command = _command("keep", stack, network)
    digest = hashlib.sha256(f"{rules}{command}{_SCRIPT.read_text()}".encode()).hexdigest()[:16]
    existing = _find(client, stack.name)
    if existing and existing["State"] == "running" and existing["Labels"].get(labels.CONFIG_HASH) == digest:
        return
    refuse_other_stack(client, stack.name, stack.publish)
    refuse_conflicts(stack.publish, forwards(stack, network.subnet), local_addresses(), listeners())
    remove_published(client, stack.name)
    marks = {
        labels.STACK: stack.name,
        labels.KIND: labels.PUBLISH,
        labels.CONFIG_HASH: digest,
        labels.VERSION: version,
        _ADDRESS_LABEL: str(stack.publish),
    }
    container = _run(client, stack.name, "publish", version, command, marks, rules)
    try:
        _wait_until_mapped(client, container)
    except BaseException:
        remove_published(client, stack.name)
        raise


def remove_published(client: docker.DockerClient, stack: str) -> None:
    """Remove the stack's port map and its helper. Blocking; removing what is not there is no error.

    Raises:
        ProviderError: the map may still be there.
    """
    existing = _find(client, stack)
    if existing is None:
        return
    with contextlib.suppress(NotFound):
        client.api.stop(existing["Id"], timeout=_STOP_GRACE_S)
        attrs = client.api.inspect_container(existing["Id"])
        if attrs["State"]["ExitCode"] != 0:  # it was killed and could not clean up
            _remove_by_another(client, stack, attrs)
        client.api.remove_container(existing["Id"], v=True, force=True)


def refuse_other_stack(client: docker.DockerClient, stack: str, publish: IPv4Address) -> None:
    """Check that no other stack is published at ``publish``.

    Raises:
        ProviderError: one is.
    """
    for other in client.api.containers(all=True, filters={"label": f"{_ADDRESS_LABEL}={publish}"}):
        name = other["Labels"].get(labels.STACK)
        if name != stack:
            raise ProviderError(
                f"publish: {publish} is published by stack {name}",
                hint="bring that down, or use another address",
            )


def listeners(proc: Path = Path("/proc/net")) -> list[Listener]:
    """The sockets of this host that wait for traffic."""
    found: list[Listener] = []
    for protocol in ("tcp", "udp"):
        for family in ("", "6"):
            with contextlib.suppress(OSError):
                found += parse_listeners(protocol, (proc / f"{protocol}{family}").read_text())
    return found


def _command(action: str, stack: Stack, network: StackNetwork) -> list[str]:
    ports = [
        one for one in forwards(stack, network.subnet) if one.first == one.last and "udp" in one.protocols
    ]
    return [
        *("sh", "/etc/smd/publish.sh", action, table_name(stack.name)),
        *(network.bridge, str(stack.publish), " ".join(str(one.first) for one in ports)),
    ]


def _run(
    client: docker.DockerClient,
    stack: str,
    name: str,
    version: str,
    command: list[str],
    marks: dict[str, str],
    rules: str,
) -> str:
    api = client.api
    keep = command[2] == "keep"
    image = labels.image_name(Role.SCALER, version)
    try:
        container: dict[str, Any] = api.create_container(
            image,
            command=command,
            name=labels.container_name(stack, name),
            labels=marks,
            host_config=api.create_host_config(
                network_mode="host",
                cap_drop=["ALL"],
                cap_add=["NET_ADMIN"],
                security_opt=["no-new-privileges"],
                mem_limit=64 * 1024 * 1024,
                pids_limit=32,
                restart_policy={"Name": "unless-stopped" if keep else "no"},
                log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "1m", "max-file": "2"}),
            ),
        )
    except ImageNotFound:
        raise ProviderError(f"publish: image {image} is missing: smd up builds it") from None
    except APIError as e:
        raise ProviderError(f"publish: {reason(e)}") from None
    identity = str(container["Id"])
    try:
        api.put_archive(identity, "/", _archive(rules))
        api.start(identity)
    except BaseException:
        with contextlib.suppress(APIError):
            api.remove_container(identity, v=True, force=True)
        raise
    return identity


def _archive(rules: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in (("etc/smd/publish.nft", rules), ("etc/smd/publish.sh", _SCRIPT.read_text())):
            data = text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _wait_until_mapped(client: docker.DockerClient, container: str) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while True:
        log = client.api.logs(container, tail=20).decode(errors="replace")
        if "is mapped" in log:
            return
        if "can't be mapped" in log or time.monotonic() > deadline:
            raise ProviderError(f"publish: the port map can't be installed: {' / '.join(log.splitlines())}")
        time.sleep(0.1)


def _find(client: docker.DockerClient, stack: str) -> dict[str, Any] | None:
    wanted = [f"{labels.STACK}={stack}", f"{labels.KIND}={labels.PUBLISH}"]
    found: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": wanted})
    return found[0] if found else None


def _remove_by_another(client: docker.DockerClient, stack: str, attrs: dict[str, Any]) -> None:
    command = [*attrs["Config"]["Cmd"]]
    command[2] = "remove"
    marks = {labels.STACK: stack, labels.KIND: "unpublish"}
    container = _run(
        client, stack, "unpublish", attrs["Config"]["Labels"][labels.VERSION], command, marks, ""
    )
    try:
        result = client.api.wait(container, timeout=int(_READY_TIMEOUT_S))
        if result["StatusCode"] != 0:
            raise ProviderError(f"publish: the map of stack {stack} can't be removed from the host")
    finally:
        client.api.remove_container(container, v=True, force=True)
