"""``smd logs``."""

from __future__ import annotations

import sys

from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import engine_errors, find_container
from sipmediadeploy.providers.docker.engine import REQUEST_TIMEOUT_S, connect
from sipmediadeploy.stack import load_stack

_SILENCE_S = 7 * 86_400
"""With --follow, a quiet replica is no error."""


def logs(place: Place, replica: str, lines: int, follow: bool) -> None:
    """Print the last ``lines`` lines of a replica's output, and with ``follow`` what comes after them."""
    stack = load_stack(place.stack_file)
    client = connect(_SILENCE_S if follow else REQUEST_TIMEOUT_S)
    with engine_errors(f"the logs of {replica}"):
        container = find_container(client, stack.name, replica)
        if not follow:
            sys.stdout.buffer.write(client.api.logs(container, tail=lines))
            return
        for chunk in client.api.logs(container, tail=lines, stream=True, follow=True):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
