"""``smd status``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import reached
from sipmediadeploy.cli.view import as_data, console, table
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.stack import Stack


def status(place: Place, as_json: bool, api: str | None = None) -> int:
    """Show the replicas and what is wrong; 0 when nothing is, else 1; ``api`` as in ``reached``."""
    stack, now = _look(place, api)
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
    return as_data(*_look(place, None))


def _look(place: Place, api: str | None) -> tuple[Stack, StackNow]:
    with reached(place, api, "the status") as running:
        return running.stack, asyncio.run(running.look())
