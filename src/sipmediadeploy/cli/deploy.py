"""``smd deploy``: a whole stack on OpenStack, step by step. What is there already is left as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from sipmediadeploy.cli import doctor_dns
from sipmediadeploy.cli.deploy_foundation import ensure_foundation, find_terraform
from sipmediadeploy.cli.deploy_images import BuildOptions, Packer, ensure_role_images
from sipmediadeploy.cli.deploy_plan import Way
from sipmediadeploy.cli.deploy_progress import farewell
from sipmediadeploy.cli.deploy_wait import Waiting
from sipmediadeploy.cli.doctor import line, look
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.view import shorten, timed_report
from sipmediadeploy.images.inputs import images_version, project_root
from sipmediadeploy.providers.findings import Finding, Level
from sipmediadeploy.providers.openstack.cloud import cloud_environment
from sipmediadeploy.providers.openstack.provider import make_provider
from sipmediadeploy.stack import Role, Stack, load_stack

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What the user says of a deployment; None: it is found or made."""

    yes: bool
    """A plan of Terraform is applied without asking."""
    foundation: Way | None
    terraform_dir: Path | None
    builds: BuildOptions
    timeout_s: float
    """Seconds that the stack may take to be whole, once its first scaler is made."""
    api: str | None


def deploy(place: Place, order: Order) -> None:
    """Bring the stack up, or a running one to what the stack file says, and wait until it is whole."""
    stack, report = load_stack(place.stack_file), timed_report()
    if stack.openstack is None:
        raise CommandError(
            f"smd deploy is for stacks on OpenStack; {stack.name} is for {stack.provider}: smd up"
        )
    root, logs = project_root(), place.state / "deploy"
    secrets, version = place.secrets(stack), images_version(root)
    environment = cloud_environment(stack.openstack.cloud)
    terraform = find_terraform(place, root, order.terraform_dir, logs, environment)
    provider = make_provider(stack, version, secrets)
    waiting = Waiting(stack, secrets.master, version, provider, order.api)
    try:
        with place.locked("deploy.lock"):
            report("looking at the cloud, as smd doctor does")
            for said in examined(stack.name, asyncio.run(look(stack, version))):
                report(said)
            packer = Packer("packer", root, logs, environment)
            ensure_role_images(provider.cloud, stack, version, order.builds, packer, report)
            way = ensure_foundation(
                place, stack, provider.cloud, terraform, order.foundation, order.yes, report
            )
            report("waiting until the stack is whole")
            arrived = asyncio.run(waiting.until_whole(order.timeout_s, report))
    finally:
        provider.close()
    if arrived.api is None:
        print(f"\nThe stack {stack.name} is whole.")
    else:
        print(f"\nThe servers of the stack {stack.name} run; whether it is whole its scalers know.")
    away = {
        Way.TERRAFORM: f"{terraform.program} -chdir={shorten(terraform.directory)} destroy",
        Way.SMD: "./smd down --foundation",
    }[way]
    public = arrived.progress.floating_ips
    print("\n".join(farewell(stack, public, arrived.api, away)))
    for said in asyncio.run(_dns(stack, public.get(Role.KAMAILIO))):
        print(said)


def examined(stack: str, found: Sequence[Finding]) -> list[str]:
    """What is to be said of the findings of ``smd doctor``: all but those that the next steps mend. Pure.

    Raises:
        CommandError: something is in the way that only the user can mend.
    """
    left = [one for one in found if one.level is not Level.OK and not one.by_deploy]
    width = max((len(one.what) for one in left), default=0)
    if any(one.level is Level.PROBLEM for one in left):
        lines = [line(one, width) for one in left if one.level is Level.PROBLEM]
        raise CommandError("\n".join([f"this is in the way of the stack {stack}:", *lines]))
    return [line(one, width) for one in left] or ["nothing is in the way"]


async def _dns(stack: Stack, here: IPv4Address | None) -> list[str]:
    """What is to be said of the domain's records, now that the address is known."""
    if doctor_dns.made_up(stack.domain):
        return []
    found = doctor_dns.findings(stack.domain, stack.sip.port, here, await doctor_dns.look_up(stack.domain))
    return [line(one, 0) for one in found if one.level is not Level.OK]
