"""``smd status``."""

from __future__ import annotations

import asyncio
import json

from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import engine_errors, find_running
from sipmediadeploy.cli.view import as_data, missing, print_table
from sipmediadeploy.providers.docker.engine import connect


def status(place: Place, as_json: bool) -> int:
    """Show the replicas and what is wrong; 0 when nothing is, else 1."""
    with engine_errors("the status"):
        running = find_running(place, connect())
    seen = asyncio.run(running.look())
    problems = missing(running.stack, seen)
    if as_json:
        print(json.dumps(as_data(running.stack, running.subnet, seen), indent=2))
        return 1 if problems else 0
    print_table(seen)
    for problem in problems:
        print(f"! {problem}")
    if not problems:
        print(f"The stack {running.stack.name} is whole.")
    return 1 if problems else 0
