"""``smd init`` and ``smd config``."""

from __future__ import annotations

import json

import yaml

from sipmediadeploy.cli.place import STACK_TEXT, Place
from sipmediadeploy.stack import Stack, load_stack, parse_stack


def init(place: Place, name: str, domain: str) -> None:
    """Write what is not there, and say what was."""
    parse_stack(STACK_TEXT.format(name=name, domain=domain), "smd init")
    written = place.init(name, domain)
    for path in (place.stack_file, place.secrets_file):
        print(f"{path}: {'written' if path in written else 'is there already; left as it is'}")


def config(place: Place, as_json: bool) -> None:
    """Print the effective stack."""
    data = effective(load_stack(place.stack_file))
    print(json.dumps(data, indent=2) if as_json else yaml.safe_dump(data, sort_keys=False), end="")
    if as_json:
        print()


def effective(stack: Stack) -> dict[str, object]:
    """The effective stack as plain data; a stack file with this content means the same."""
    return stack.model_dump(mode="json")
