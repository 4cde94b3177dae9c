"""``smd status``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import Running, engine_errors, find_running
from sipmediadeploy.cli.view import Seen, as_data, console, table
from sipmediadeploy.providers.docker.engine import connect


def status(place: Place, as_json: bool) -> int:
    """Show the replicas and what is wrong; 0 when nothing is, else 1."""
    running, seen = _look(place)
    data = as_data(running.stack, running.subnet, seen)
    problems = data["problems"]
    if as_json:
        print(json.dumps(data, indent=2))
        return 1 if problems else 0
    console().print(table(seen))
    for problem in problems:
        print(f"! {problem}")
    if not problems:
        print(f"The stack {running.stack.name} is whole.")
    return 1 if problems else 0


def status_data(place: Place) -> dict[str, Any]:
    """What ``smd status --json`` prints.

    Raises:
        CommandError: the stack is not up, or the engine refuses.
    """
    running, seen = _look(place)
    return as_data(running.stack, running.subnet, seen)


def _look(place: Place) -> tuple[Running, list[Seen]]:
    with engine_errors("the status"), contextlib.closing(connect()) as client:
        running = find_running(place, client)
    return running, asyncio.run(running.look())
