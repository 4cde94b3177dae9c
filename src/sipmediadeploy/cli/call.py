"""``smd call``: a test call, placed from a container of the gateway image in the stack's network."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import Running, engine_errors, find_running
from sipmediadeploy.providers.docker import addresses, labels
from sipmediadeploy.providers.docker.engine import connect, reason
from sipmediadeploy.stack import Role

_KIND = "call"
_DIRECTORY = "/call"
_SNAPSHOT = f"{_DIRECTORY}/snapshot.png"
_HANG_UP_S = 5
_SILENCE_S = 120
"""The test client writes a line each second; so long without one means that something hangs."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to call and how."""

    room: str
    seconds: float
    as_json: bool = False
    snapshot: Path | None = None
    file: Path | None = None
    to: str | None = None
    more: tuple[str, ...] = ()
    """Further options of the test client."""


def call(place: Place, order: Call) -> int:
    """Place the call and print what the test client says; its exit code."""
    if order.file is not None and not order.file.is_file():
        raise CommandError(f"--file {order.file}: there is no such file")
    if order.snapshot is not None and not order.snapshot.absolute().parent.is_dir():
        raise CommandError(f"--snapshot {order.snapshot}: there is no such directory")
    client = connect(_SILENCE_S)
    running = find_running(place, client)
    with engine_errors("the call"), _container(client, running, order) as container:
        code = _follow(client, container)
        if order.snapshot is not None:
            _save_snapshot(client, container, order.snapshot)
        return code


def arguments(order: Call, running_to: str) -> list[str]:
    """The test client's command line."""
    words = [order.room, "--to", order.to or running_to, "--seconds", f"{order.seconds:g}"]
    words += ["--json"] if order.as_json else []
    words += ["--snapshot", _SNAPSHOT] if order.snapshot else []
    words += ["--file", f"{_DIRECTORY}/{order.file.name}"] if order.file else []
    return [*words, *order.more]


def free_addresses(client: docker.DockerClient, stack: str, subnet: IPv4Network) -> list[IPv4Address]:
    """The addresses left for test clients that none has now."""
    network = client.api.inspect_network(labels.network_name(stack))
    used = {one["IPv4Address"].split("/")[0] for one in network["Containers"].values()}
    return [subnet[host] for host in addresses.CLIENT_HOSTS if str(subnet[host]) not in used]


@contextlib.contextmanager
def _container(client: docker.DockerClient, running: Running, order: Call) -> Iterator[str]:
    """A started container of the test client, which is removed at the end, whatever happens."""
    service = addresses.service_address(running.subnet, Role.KAMAILIO)
    command = arguments(order, f"{service}:{running.stack.sip.port}")
    for address in free_addresses(client, running.stack.name, running.subnet):
        container = _create(client, running, address, command)
        try:
            client.api.put_archive(container, "/", _files(order))
            try:
                client.api.start(container)
            except APIError as e:
                if "already in use" in reason(e).lower():
                    continue  # Another call was quicker to take the address.
                raise
            with _interrupted_by_sigterm():
                yield container
            return
        finally:
            with contextlib.suppress(NotFound):
                client.api.remove_container(container, force=True, v=True)
    raise CommandError(f"no address is free for a test client: {len(addresses.CLIENT_HOSTS)} calls run")


def _create(client: docker.DockerClient, running: Running, address: IPv4Address, command: list[str]) -> str:
    api, stack = client.api, running.stack.name
    endpoint = api.create_endpoint_config(ipv4_address=str(address))
    created = api.create_container(
        labels.image_name(Role.GATEWAY, running.version),
        name=labels.container_name(stack, f"call-{os.getpid()}-{address.packed[-1]}"),
        entrypoint=["/usr/bin/python3", "-m", "sipmediadeploy.gateway.testcall"],
        command=command,
        environment={
            "PYTHONPATH": "/opt/smd/site-packages",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        labels={labels.STACK: stack, labels.KIND: _KIND},
        stop_signal="SIGINT",
        host_config=api.create_host_config(
            cap_drop=["ALL"], security_opt=["no-new-privileges"], mem_limit="1g", pids_limit=512, init=True
        ),
        networking_config=api.create_networking_config(
            {labels.network_name(stack): endpoint}  # type: ignore[arg-type]
        ),
    )
    return str(created["Id"])


def _follow(client: docker.DockerClient, container: str) -> int:
    """Print the container's output until it ends; its exit code. Ctrl-C hangs up in order."""
    output = client.api.attach(container, stdout=True, stderr=True, stream=True, logs=True, demux=True)
    try:
        for out, err in output:
            for chunk, stream in ((out, sys.stdout), (err, sys.stderr)):
                if chunk:
                    stream.buffer.write(chunk)
                    stream.flush()
    except KeyboardInterrupt:
        client.api.stop(container, timeout=_HANG_UP_S)
        raise
    return int(client.api.wait(container)["StatusCode"])


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the call as Ctrl-C does, so that the container is removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _files(order: Call) -> bytes:
    """An archive with the call's directory and, if one is to be sent, the file in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo(_DIRECTORY.lstrip("/"))
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        if order.file is not None:
            tar.add(order.file, f"{_DIRECTORY.lstrip('/')}/{order.file.name}")
    return buffer.getvalue()


def _save_snapshot(client: docker.DockerClient, container: str, path: Path) -> None:
    try:
        chunks, _ = client.api.get_archive(container, _SNAPSHOT)
    except NotFound:
        print(f"smd: no picture came back, so {path} was not written", file=sys.stderr)
        return
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        picture = tar.extractfile(tar.getmembers()[0])
        if picture is not None:
            path.write_bytes(picture.read())
            print(f"picture saved: {path}", file=sys.stderr)
