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
    """Print the effective stack; as JSON, for Terraform, with what it stands on."""
    stack = load_stack(place.stack_file)
    if as_json:
        print(as_json_text(stack))
    else:
        print(yaml.safe_dump(effective(stack), sort_keys=False), end="")


def as_json_text(stack: Stack) -> str:
    """What Terraform reads: the effective stack, and what it stands on.

    Raises:
        ProviderError: see :func:`described_foundation`.
    """
    return json.dumps(effective(stack) | described_foundation(stack), indent=2)


def effective(stack: Stack) -> dict[str, object]:
    """The effective stack as plain data; a stack file with this content means the same."""
    return stack.model_dump(mode="json")


def described_foundation(stack: Stack) -> dict[str, object]:
    """What a stack on OpenStack stands on, under ``foundation``; nothing for other providers.

    Raises:
        ProviderError: the stack file does not say the range of the network that it names.
    """
    if stack.openstack is None:
        return {}
    from sipmediadeploy.providers.openstack.foundation import foundation, own_range

    return {"foundation": foundation(stack, own_range(stack)).plain()}
