"""``smd application`` and ``smd document`` make what servers need; ``smd node --status`` asks on them."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import yaml
from pydantic import ValidationError

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.images.inputs import project_root
from sipmediadeploy.images.servers import application_version, write_application
from sipmediadeploy.protocol.agent import Status
from sipmediadeploy.protocol.client import AgentError, ask_status
from sipmediadeploy.protocol.replica import PATH, ReplicaDocument, load_replica_document
from sipmediadeploy.protocol.seen import WELL
from sipmediadeploy.scaler.fixed_hosts import Fleet, FleetError, host_document
from sipmediadeploy.stack import load_stack

_AGAIN_S = 0.5


def application(directory: Path) -> None:
    """Write the application for servers to ``directory``, and say whether it was there."""
    root = project_root()
    try:
        new = write_application(root, directory, lambda line: print(f"smd: {line}", file=sys.stderr))
    except OSError as e:
        raise CommandError(f"{directory}: can't be written: {e}") from None
    print(f"{directory}: {application_version(root)} {'written' if new else 'is there already'}")


def document(place: Place, name: str, hosts: str) -> None:
    """Print the document of the host ``name`` of the fleet that the file ``hosts`` describes."""
    stack = load_stack(place.stack_file)
    fleet = _fleet(hosts)
    try:
        made = host_document(stack, place.secrets(stack), fleet, name)
    except FleetError as e:
        raise CommandError(f"{hosts}: {e}") from None
    sys.stdout.write(made.to_yaml())


def status(wait_s: float) -> int:
    """Print what this machine's own agent says, once it is well or ``wait_s`` are over; 0: it is well."""
    deadline = time.monotonic() + wait_s
    while True:
        answer = _own_status()
        well = isinstance(answer, Status) and answer.state in WELL
        if well or time.monotonic() >= deadline:
            break
        time.sleep(_AGAIN_S)
    if isinstance(answer, str):
        raise CommandError(answer)
    held = "" if answer.active is None else (", active" if answer.active else ", standby")
    print(f"{answer.name}: {answer.state}{held}: {answer.reason}")
    return 0 if well else 1


def _own_status() -> Status | str:
    """What the agent says; in words why it can't be asked."""
    try:
        own: ReplicaDocument = load_replica_document(PATH)
    except OSError as e:
        return f"{PATH}: the replica document can't be read: {e.strerror}"
    except ValueError as e:
        return f"{PATH}: not a replica document ({type(e).__name__})"  # Its text may quote secrets.
    try:
        return asyncio.run(ask_status(own.address, own.agent_port, own.agent_token))
    except AgentError as e:
        return f"{own.name}: its agent does not answer: {e}"


def _fleet(hosts: str) -> Fleet:
    try:
        text = sys.stdin.read() if hosts == "-" else Path(hosts).read_text(encoding="utf-8")
        return Fleet.model_validate(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as e:
        raise CommandError(f"{hosts}: can't be read: {e}") from None
    except yaml.YAMLError as e:
        raise CommandError(f"{hosts}: not valid YAML: {e}") from None
    except ValidationError as e:
        lines = [f"{'.'.join(map(str, error['loc'])) or 'the fleet'}: {error['msg']}" for error in e.errors()]
        raise CommandError("\n".join(f"{hosts}: {line}" for line in lines)) from None
