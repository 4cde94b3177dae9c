"""``smd call``: a test call, placed from a container of the gateway image on this machine.

That of a stack on this machine is in the stack's network; another stack is called as the world calls it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
from docker.errors import APIError, NotFound

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import engine_errors, find_running, refuse_api
from sipmediadeploy.images.build import is_there
from sipmediadeploy.images.inputs import images_version, project_root
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import addresses, labels
from sipmediadeploy.providers.docker.engine import connect, reason
from sipmediadeploy.stack import Role, Stack, load_stack

_KIND = "call"
_DIRECTORY = "/call"
_SNAPSHOT = f"{_DIRECTORY}/snapshot.png"
_HANG_UP_S = 5
_COMPANION = "Companion"
_COMPANION_LONGER_S = 5
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
    alone: bool = False
    """Without a second terminal in the room."""
    more: tuple[str, ...] = ()
    """Further options of the test client."""


@dataclass(frozen=True, slots=True)
class Bed:
    """Where the containers of test clients are, and whom they call."""

    stack: str
    image: str
    to: str
    """HOST:PORT."""
    networks: Callable[[], Iterable[dict[str, Any] | None]]
    """The engine's network configurations for one, tried until one is free; None: this host's own network."""


def call(place: Place, order: Call, api: str | None = None) -> int:
    """Place the call and print what the test client says; its exit code. ``api`` as in ``reached``."""
    if order.file is not None and not order.file.is_file():
        raise CommandError(f"--file {order.file}: there is no such file")
    if order.snapshot is not None and not order.snapshot.absolute().parent.is_dir():
        raise CommandError(f"--snapshot {order.snapshot}: there is no such directory")
    client, bed = _bed(place, order, api)
    with engine_errors("the call"), contextlib.ExitStack() as containers:
        containers.enter_context(_handling(_interrupt, signal.SIGTERM))  # Containers are removed then, too.
        if not order.alone:
            print(f"{_COMPANION} joins too, so that something comes back; not with --alone.", file=sys.stderr)
            containers.enter_context(_container(client, bed, companion_arguments(order, bed.to)))
        words = arguments(order, bed.to)
        container = containers.enter_context(_container(client, bed, words, order.file))
        code = _follow(client, container)
        if order.snapshot is not None:
            _save_snapshot(client, container, order.snapshot)
        return code


def arguments(order: Call, to: str) -> list[str]:
    """The test client's command line."""
    words = [order.room, "--to", to, "--seconds", f"{order.seconds:g}"]
    words += ["--json"] if order.as_json else []
    words += ["--snapshot", _SNAPSHOT] if order.snapshot else []
    words += ["--file", f"{_DIRECTORY}/{order.file.name}"] if order.file else []
    return [*words, *order.more]


def companion_arguments(order: Call, to: str) -> list[str]:
    """The command line of the second terminal: a little longer in the room than the first."""
    words = [order.room, "--to", to, "--seconds", f"{order.seconds + _COMPANION_LONGER_S:g}"]
    return [*words, "--name", _COMPANION, "--tone", "660", "--colour", "ff8c00", "--no-decode"]


def _bed(place: Place, order: Call, api: str | None) -> tuple[docker.DockerClient, Bed]:
    stack = load_stack(place.stack_file)
    if stack.provider != "docker":
        return _outside(place, stack, order, api)
    refuse_api(stack, api)
    client = connect(_SILENCE_S)
    running = find_running(place, client)
    subnet, network = running.subnet, labels.network_name(stack.name)

    def networks() -> Iterator[dict[str, Any]]:
        for address in free_addresses(client, stack.name, subnet):
            endpoint = client.api.create_endpoint_config(ipv4_address=str(address))
            yield {"EndpointsConfig": {network: endpoint}}

    to = order.to or f"{addresses.service_address(subnet, Role.KAMAILIO)}:{stack.sip.port}"
    return client, Bed(stack.name, labels.image_name(Role.GATEWAY, running.version), to, networks)


def _outside(place: Place, stack: Stack, order: Call, api: str | None) -> tuple[docker.DockerClient, Bed]:
    """For a stack elsewhere: this machine's own network, and the stack's public address."""
    to = order.to or f"{_public_address(place, stack, api)}:{stack.sip.port}"
    image = labels.image_name(Role.GATEWAY, images_version(project_root()))
    try:
        client = connect(_SILENCE_S)
        there = is_there(client, image)
    except ProviderError as e:
        raise CommandError(
            f"smd call runs its terminal in a container on this machine, and {e}. "
            f"Any SIP terminal can call sip:{order.room}@{to} as well"
        ) from None
    if not there:
        raise CommandError(
            f"image {image}, in which smd call has its terminal, is not on this machine: smd images build"
        )
    return client, Bed(stack.name, image, to, lambda: [None])


def _public_address(place: Place, stack: Stack, api: str | None) -> IPv4Address:
    from sipmediadeploy.cli.remote import find_floating_ip

    found = find_floating_ip(place, stack, Role.KAMAILIO, api)
    if found is None:
        raise CommandError(
            f"stack {stack.name}: kamailio has no floating IP; terraform apply, or smd bootstrap "
            "--foundation, makes it. Or say where to call: --to ADDRESS[:PORT]"
        )
    return found


def free_addresses(client: docker.DockerClient, stack: str, subnet: IPv4Network) -> list[IPv4Address]:
    """The addresses left for test clients that none has now."""
    network = client.api.inspect_network(labels.network_name(stack))
    used = {one["IPv4Address"].split("/")[0] for one in network["Containers"].values()}
    return [subnet[host] for host in addresses.CLIENT_HOSTS if str(subnet[host]) not in used]


@contextlib.contextmanager
def _container(
    client: docker.DockerClient, bed: Bed, command: list[str], file: Path | None = None
) -> Iterator[str]:
    """A started container of the test client, which hangs up and is removed at the end, whatever happens."""
    for network in bed.networks():
        container = _create(client, bed, network, command)
        try:
            client.api.put_archive(container, "/", _files(file))
            try:
                client.api.start(container)
            except APIError as e:
                if "already in use" in reason(e).lower():
                    continue  # Another call was quicker to take the address.
                raise
            yield container
            client.api.stop(container, timeout=_HANG_UP_S)
            return
        finally:
            with contextlib.suppress(NotFound):
                client.api.remove_container(container, force=True, v=True)
    raise CommandError(f"no address is free for a test client: {len(addresses.CLIENT_HOSTS)} calls run")


def _create(client: docker.DockerClient, bed: Bed, network: dict[str, Any] | None, command: list[str]) -> str:
    api = client.api
    created = api.create_container(
        bed.image,
        name=labels.container_name(bed.stack, f"call-{os.getpid()}-{token_hex(3)}"),
        entrypoint=["/usr/bin/python3", "-m", "sipmediadeploy.gateway.testcall"],
        command=command,
        environment={
            "PYTHONPATH": "/opt/smd/site-packages",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        labels={labels.STACK: bed.stack, labels.KIND: _KIND},
        stop_signal="SIGINT",
        host_config=api.create_host_config(
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit="1g",
            pids_limit=512,
            init=True,
            network_mode="host" if network is None else None,
        ),
        networking_config=network,
    )
    return str(created["Id"])


def _follow(client: docker.DockerClient, container: str) -> int:
    """Print the container's output until it ends; its exit code."""
    output = client.api.attach(container, stdout=True, stderr=True, stream=True, logs=True, demux=True)
    with _hanging_up_on_signals(client, container):
        for out, err in output:
            for chunk, stream in ((out, sys.stdout), (err, sys.stderr)):
                if chunk:
                    stream.buffer.write(chunk)
                    stream.flush()
    return int(client.api.wait(container)["StatusCode"])


@contextlib.contextmanager
def _hanging_up_on_signals(client: docker.DockerClient, container: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM hang up in order, and what the client says last is still printed; again: at once."""

    def hang_up(*_: object) -> None:
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)
        with contextlib.suppress(APIError):  # It may have ended by itself.
            client.api.kill(container, "SIGINT")

    with _handling(hang_up, signal.SIGINT, signal.SIGTERM):
        yield


@contextlib.contextmanager
def _handling(handler: Callable[..., None], *signals: signal.Signals) -> Iterator[None]:
    before = [(one, signal.signal(one, handler)) for one in signals]
    try:
        yield
    finally:
        for one, old in before:
            signal.signal(one, old)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _files(file: Path | None) -> bytes:
    """An archive with the call's directory and, if one is to be sent, the file in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo(_DIRECTORY.lstrip("/"))
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        if file is not None:
            tar.add(file, f"{_DIRECTORY.lstrip('/')}/{file.name}")
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
