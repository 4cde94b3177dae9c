"""``smd doctor``: looks at all that a deployment needs, and says what is in the way and what to do."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from ipaddress import IPv4Address

from sipmediadeploy.cli import doctor_conference, doctor_dns
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.view import wanted_numbers
from sipmediadeploy.images.inputs import images_version, project_root
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.engine import in_thread
from sipmediadeploy.providers.findings import Finding, Level, Need, unknown
from sipmediadeploy.scaler.main import limits_of
from sipmediadeploy.stack import OpenStack, Role, Stack, load_stack

_DOCKER_LIMIT_S = 30.0


def doctor(place: Place, as_json: bool) -> int:
    """Print what was found; 0: nothing is in the way, else 1."""
    started = time.monotonic()
    stack = load_stack(place.stack_file)
    version = images_version(project_root()) if stack.openstack is not None else ""
    found = asyncio.run(look(stack, version))
    in_the_way = any(one.level is Level.PROBLEM for one in found)
    if as_json:
        print(json.dumps(as_data(stack.name, found), indent=2))
    else:
        width = max(len(one.what) for one in found)
        for one in found:
            print(line(one, width))
        print(f"\n{summary(stack.name, found)} Looked for {time.monotonic() - started:.1f} s.")
    return 1 if in_the_way else 0


def pool_needs(stack: Stack) -> list[Need]:
    """How many replicas there may be of each role: its most, and one that is being replaced. Pure."""
    most = wanted_numbers(stack) | {Role.GATEWAY: stack.pools.gateway.max}
    return [Need(role, number + 1, limits_of(stack, role)) for role, number in most.items()]


def line(finding: Finding, width: int) -> str:
    """A finding as text; what to do is on a line of its own. Pure."""
    text = f"{finding.level:<8} {finding.what:<{width}}  {finding.found}"
    return text + (f"\n{'':<{11 + width}}→ {finding.todo}" if finding.todo else "")


def summary(stack: str, found: list[Finding]) -> str:
    """All findings in a sentence. Pure."""
    number = Counter(one.level for one in found)
    problems = number[Level.PROBLEM]
    words = {0: "Nothing is", 1: "1 thing is"}.get(problems, f"{problems} things are")
    counts = {"warnings": number[Level.WARNING], "not known": number[Level.UNKNOWN]}
    rest = ", ".join(f"{what}: {count}" for what, count in counts.items() if count)
    return f"{words} in the way of the stack {stack}" + (f" ({rest})." if rest else ".")


def as_data(stack: str, found: list[Finding]) -> dict[str, object]:
    """The findings for ``--json``. Pure."""
    rows = [
        {
            "level": str(one.level),
            "what": one.what,
            "found": one.found,
            "todo": one.todo,
            "by_deploy": one.by_deploy,
        }
        for one in found
    ]
    return {"stack": stack, "ok": all(one.level is not Level.PROBLEM for one in found), "findings": rows}


async def look(stack: Stack, version: str) -> list[Finding]:
    """All that a deployment needs, with images of ``version``.

    Everything is looked at side by side; only the domain is compared when the address is known.
    """
    async with asyncio.TaskGroup() as tasks:
        provider = tasks.create_task(_provider(stack, version))
        platform = tasks.create_task(doctor_conference.look(stack.conference))
        looked_up = tasks.create_task(_records(stack.domain))
    found, here = provider.result()
    return [
        *found,
        platform.result(),
        *doctor_dns.findings(stack.domain, stack.sip.port, here, looked_up.result()),
    ]


async def _records(name: str) -> doctor_dns.Records | str:
    return "not looked up" if doctor_dns.made_up(name) else await doctor_dns.look_up(name)


async def _provider(stack: Stack, version: str) -> tuple[list[Finding], IPv4Address | None]:
    if stack.provider == "docker":
        return await _docker(stack)
    if stack.openstack is not None:
        return await _openstack(stack, stack.openstack, version)
    return [unknown("provider", f"{stack.provider} has no checks of its own here")], stack.publish


async def _docker(stack: Stack) -> tuple[list[Finding], IPv4Address | None]:
    from sipmediadeploy.providers.docker import preconditions

    try:
        return await in_thread(
            "the engine", _DOCKER_LIMIT_S, lambda: preconditions.look(stack, pool_needs(stack))
        )
    except ProviderError as e:
        return [unknown("engine", str(e), "try again")], stack.publish


async def _openstack(
    stack: Stack, settings: OpenStack, version: str
) -> tuple[list[Finding], IPv4Address | None]:
    from sipmediadeploy.providers.openstack import preconditions, surveyor
    from sipmediadeploy.providers.openstack.cloud import Cloud, read_credentials

    needs = pool_needs(stack)
    cloud = Cloud(lambda: read_credentials(settings.cloud), surveyor.REQUEST_TIMEOUT_S)
    try:
        seen = await surveyor.take(cloud, stack, version, needs)
    finally:
        cloud.close()
    here = None
    if not isinstance(seen, ProviderError) and not isinstance(seen.owned, ProviderError):
        here = seen.owned.public_address(stack.name, Role.KAMAILIO)
    return preconditions.findings(stack, needs, seen), here
