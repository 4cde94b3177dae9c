"""``smd call``: a test call, placed from a container of the gateway image in the stack's network."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
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


def call(place: Place, order: Call) -> int:
    """Place the call and print what the test client says; its exit code."""
    if order.file is not None and not order.file.is_file():
        raise CommandError(f"--file {order.file}: there is no such file")
    if order.snapshot is not None and not order.snapshot.absolute().parent.is_dir():
        raise CommandError(f"--snapshot {order.snapshot}: there is no such directory")
    client = connect(_SILENCE_S)
    running = find_running(place, client)
    to = order.to or f"{addresses.service_address(running.subnet, Role.KAMAILIO)}:{running.stack.sip.port}"
    with engine_errors("the call"), contextlib.ExitStack() as containers:
        containers.enter_context(_handling(_interrupt, signal.SIGTERM))  # Containers are removed then, too.
        if not order.alone:
            print(f"{_COMPANION} joins too, so that something comes back; not with --alone.", file=sys.stderr)
            containers.enter_context(_container(client, running, companion_arguments(order, to)))
        words = arguments(order, to)
        container = containers.enter_context(_container(client, running, words, order.file))
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


def free_addresses(client: docker.DockerClient, stack: str, subnet: IPv4Network) -> list[IPv4Address]:
    """The addresses left for test clients that none has now."""
    network = client.api.inspect_network(labels.network_name(stack))
    used = {one["IPv4Address"].split("/")[0] for one in network["Containers"].values()}
    return [subnet[host] for host in addresses.CLIENT_HOSTS if str(subnet[host]) not in used]


@contextlib.contextmanager
def _container(
    client: docker.DockerClient, running: Running, command: list[str], file: Path | None = None
) -> Iterator[str]:
    """A started container of the test client, which hangs up and is removed at the end, whatever happens."""
    for address in free_addresses(client, running.stack.name, running.subnet):
        container = _create(client, running, address, command)
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
