"""``smd status``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import engine_errors, find_running
from sipmediadeploy.cli.view import as_data, console, table
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.docker.engine import connect
from sipmediadeploy.stack import Stack


def status(place: Place, as_json: bool) -> int:
    """Show the replicas and what is wrong; 0 when nothing is, else 1."""
    stack, now = _look(place)
    data = as_data(stack, now)
    problems = data["problems"]
    if as_json:
        print(json.dumps(data, indent=2))
        return 1 if problems else 0
    console().print(table(now.replicas))
    for problem in problems:
        print(f"! {problem}")
    if not problems:
        print(f"The stack {stack.name} is whole.")
    return 1 if problems else 0


def status_data(place: Place) -> dict[str, Any]:
    """What ``smd status --json`` prints.

    Raises:
        CommandError: the stack is not up, or the engine refuses.
    """
    return as_data(*_look(place))


def _look(place: Place) -> tuple[Stack, StackNow]:
    with engine_errors("the status"), contextlib.closing(connect()) as client:
        running = find_running(place, client)
    return running.stack, asyncio.run(running.look())
