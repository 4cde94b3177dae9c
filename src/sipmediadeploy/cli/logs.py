"""``smd logs``."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys

from sipmediadeploy.cli.errors import USER_ERROR, CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import engine_errors, find_container, refuse_api
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.providers.docker.engine import REQUEST_TIMEOUT_S, connect
from sipmediadeploy.stack import OpenStack, Role, Stack, load_stack

_SILENCE_S = 7 * 86_400
"""With --follow, a quiet replica is no error."""
_USER = "debian"
"""Of the images that Packer makes."""
_SSH_FAILED = 255


def logs(place: Place, replica: str, lines: int, follow: bool, api: str | None) -> int:
    """Print the last ``lines`` lines of a replica's output, and with ``follow`` what comes after them.

    Of a stack elsewhere they are those of each service, which the scalers ask the replica's agent for
    (``api`` as in ``reached``); following goes over SSH. The exit code.
    """
    stack = load_stack(place.stack_file)
    if stack.provider != "docker":
        return _of_a_stack_elsewhere(place, stack, replica, lines, follow, api)
    refuse_api(stack, api)
    client = connect(_SILENCE_S if follow else REQUEST_TIMEOUT_S)
    with engine_errors(f"the logs of {replica}"):
        container = find_container(client, stack.name, replica)
        if not follow:
            sys.stdout.buffer.write(client.api.logs(container, tail=lines))
            return 0
        for chunk in client.api.logs(container, tail=lines, stream=True, follow=True):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    return 0


def ssh_command(stack: Stack, now: StackNow, replica: str, lines: int, follow: bool) -> list[str]:
    """What prints the journal of a replica over SSH, through the scaler that has the floating IP. Pure.

    Raises:
        CommandError: there is no such replica.
    """
    record = find_replica(stack, now, replica)
    door = next((ip for ip in now.floating_ips if ip.role is Role.SCALER), None)
    if door is None:
        way = [f"{_USER}@{record.address}"]
    elif door.mapped_to == record.id:
        way = [f"{_USER}@{door.address}"]
    else:
        way = ["-J", f"{_USER}@{door.address}", f"{_USER}@{record.address}"]
    shown = ["sudo", "journalctl", "-u", "smd-*", "-n", str(lines), *(["-f"] if follow else [])]
    return ["ssh", *way, shlex.join(shown)]


def find_replica(stack: Stack, now: StackNow, replica: str) -> ReplicaRecord:
    """The record of ``replica``, whose name may be given without the stack's. Pure.

    Raises:
        CommandError: there is no such replica.
    """
    records = {one.record.name: one.record for one in now.replicas}
    record = records.get(replica) or records.get(f"{stack.name}-{replica}")
    if record is None:
        names = ", ".join(sorted(records)) or "none"
        raise CommandError(f"no replica is named {replica}. There are: {names}")
    return record


def other_ways(stack: Stack, now: StackNow | None, replica: str, lines: int) -> str:
    """What else an operator can type to see what a replica says, a line each (``now``: if known). Pure."""
    settings = stack.openstack or OpenStack()
    name = replica if replica.startswith(f"{stack.name}-") else f"{stack.name}-{replica}"
    cloud = f" --os-cloud {shlex.quote(settings.cloud)}" if settings.cloud else ""
    ways = [f"what its console shows: openstack{cloud} console log show {shlex.quote(name)}"]
    if not _has_ssh(settings):
        ways.append(_NO_SSH)
    elif now is not None:
        ways.append(f"its journal: {shlex.join(ssh_command(stack, now, replica, lines, follow=False))}")
    else:
        ways.append(f"its address, for SSH: openstack{cloud} server list --tags smd.stack={stack.name}")
    return "\n".join(ways)


_NO_SSH = "SSH lets nobody in: set openstack.key_pair (of replicas made from then on) and openstack.ssh_from"


def _has_ssh(settings: OpenStack) -> bool:
    return settings.key_pair is not None and bool(settings.ssh_from)


def _of_a_stack_elsewhere(
    place: Place, stack: Stack, replica: str, lines: int, follow: bool, api: str | None
) -> int:
    from sipmediadeploy.cli.remote import find_remote

    if follow and not _has_ssh(stack.openstack or OpenStack()):
        raise CommandError(f"smd logs -f goes over SSH. {_NO_SSH}")
    running = find_remote(place, stack, api)
    try:
        now = asyncio.run(running.look())
    except CommandError as e:
        raise CommandError(f"{e}\n{other_ways(stack, None, replica, lines)}") from None
    name = find_replica(stack, now, replica).name
    if follow:
        return _run(ssh_command(stack, now, name, lines, follow))
    try:
        text = asyncio.run(running.ask(lambda client, address: client.logs(address, name, lines)))
    except CommandError as e:
        raise CommandError(f"{e}\n{other_ways(stack, now, name, lines)}") from None
    sys.stdout.write(text)
    return 0


def _run(command: list[str]) -> int:
    """Run ssh in this terminal; its exit code."""
    print(f"smd: {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        code = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise CommandError("ssh is not installed here (on Debian: apt-get install openssh-client)") from None
    return USER_ERROR if code == _SSH_FAILED else code
