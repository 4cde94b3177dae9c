"""``smd bootstrap``: makes the first scaler of a stack on OpenStack, and the first scaler makes all else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.first_scaler import ensure_scaler
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import Running
from sipmediadeploy.cli.view import timed_report
from sipmediadeploy.images.inputs import images_version, project_root
from sipmediadeploy.providers.openstack.ensure import ensure_foundation, remove_foundation
from sipmediadeploy.providers.openstack.foundation import own_range
from sipmediadeploy.providers.openstack.provider import OpenStackProvider, make_provider
from sipmediadeploy.stack import Stack, load_stack

_ROUNDS = 3


def bootstrap(place: Place, foundation: bool, report: Callable[[str], None] | None = None) -> None:
    """See to it that a scaler of the present version runs, and ``report`` what is done. Safe to repeat.

    With ``foundation`` networks, router and security groups are made as well, where Terraform does not.
    """
    stack, report = load_stack(place.stack_file), report or timed_report()
    if stack.openstack is None:
        raise CommandError(
            f"smd bootstrap is for stacks on OpenStack; {stack.name} is for {stack.provider}: smd up"
        )
    secrets, version = place.secrets(stack), images_version(project_root())
    provider = make_provider(stack, version, secrets)
    try:
        with place.locked():
            if foundation:
                report("networks, router and security groups")
                ensure_foundation(provider.cloud, stack, own_range(stack))
            subnet = asyncio.run(provider.subnet())
            asyncio.run(ensure_scaler(Running(stack, secrets, subnet, version, provider), report))
    finally:
        provider.close()
    report(f"a scaler of the stack {stack.name} is there, and makes what is missing")


def remove(place: Place, stack: Stack, foundation: bool) -> None:
    """Remove all that scalers and ``smd bootstrap`` made of a stack on OpenStack.

    Networks, router and security groups are Terraform's, and go with ``foundation`` only.
    """

    def report(line: str) -> None:
        print(line, flush=True)

    provider = make_provider(stack, "", place.secrets(stack))
    try:
        with place.locked():
            removed = asyncio.run(_remove_all(provider, report))
            if foundation:
                remove_foundation(provider.cloud, stack)
                report("removed networks, router and security groups")
    finally:
        provider.close()
    print(f"The stack {stack.name} is down." if removed else f"The stack {stack.name} was not up.")


async def _remove_all(provider: OpenStackProvider, report: Callable[[str], None]) -> int:
    """A scaler that was being removed may have asked for a server that came after the others were listed."""
    removed = 0
    for _ in range(_ROUNDS):
        now = await provider.remove_all(report)
        removed += now
        if not now:
            break
    return removed
