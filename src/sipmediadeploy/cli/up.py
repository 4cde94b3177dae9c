"""``smd up``: makes what the first scaler needs and the scaler itself, then waits until all is whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import docker

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.first_scaler import ensure_scaler
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import Running, engine_errors
from sipmediadeploy.cli.view import console, missing, page_address, shorten, sip_address, table, timed_report
from sipmediadeploy.images.build import ensure_images
from sipmediadeploy.protocol.client import AgentError, Agents, WrongToken
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.protocol.seen import Seen
from sipmediadeploy.providers.docker.engine import ensure_engine
from sipmediadeploy.providers.docker.network import ensure_network
from sipmediadeploy.providers.docker.publish import ensure_published
from sipmediadeploy.scaler.look import look
from sipmediadeploy.scaler.main import load_provider
from sipmediadeploy.stack import Role, Stack, load_stack

_LOG_LINES = 12
_STEP_S = 0.5


def up(place: Place, timeout: float) -> None:
    """Bring the stack up and wait until it is whole."""
    report = timed_report()
    for path in place.init():
        report(f"wrote {shorten(path)}")
    stack = load_stack(place.stack_file)
    if stack.provider != "docker":
        raise CommandError(
            f"smd up brings stacks up on this machine; {stack.name} is for {stack.provider}: smd bootstrap"
        )
    secrets = place.secrets(stack)
    with place.locked(), engine_errors("the stack can't be brought up"):
        client = ensure_engine(report)
        running = _prepare(stack, secrets, client, report)
        asyncio.run(_bring_up(running, client, timeout, report))
    print(f"\nThe stack {stack.name} is up.")
    print(f"  call  {sip_address(stack, running.subnet)}")
    print(f"  open  {page_address(stack, running.subnet) or stack.conference.url}")
    print("  try   ./smd call demo\n")
    console().print(table(asyncio.run(running.look()).replicas))


def _prepare(
    stack: Stack, secrets: Secrets, client: docker.DockerClient, report: Callable[[str], None]
) -> Running:
    version = ensure_images(client, report)
    network = ensure_network(client, stack)
    report(f"network {network.subnet} on {network.bridge}")
    if stack.publish is not None:
        report(f"ports of {stack.publish} lead to the stack")
    ensure_published(client, stack, network, version)
    return Running(stack, secrets, network.subnet, version, load_provider(stack, version, secrets))


async def _bring_up(
    running: Running, client: docker.DockerClient, limit_s: float, report: Callable[[str], None]
) -> None:
    async with running.agents() as agents:
        await _refuse_other_secrets(running, agents)
        await ensure_scaler(running, report)
        seen = await _wait_until_whole(running, agents, limit_s, report)
    problems = missing(running.stack, seen)
    if problems:
        raise CommandError(_explain(running, client, seen, problems, limit_s))


async def _refuse_other_secrets(running: Running, agents: Agents) -> None:
    """A stack of this name that was made with other secrets would never listen to this one's scaler."""
    for record in await running.provider.inventory():
        try:
            await agents.status(record)
        except WrongToken:
            raise CommandError(
                f"{record.name} runs and was made with another secrets file. Bring that one back, "
                f"or remove the stack {running.stack.name} first: smd down"
            ) from None
        except AgentError:
            continue


async def _wait_until_whole(
    running: Running, agents: Agents, limit_s: float, report: Callable[[str], None]
) -> tuple[Seen, ...]:
    """Look until nothing is missing or the time is over, and tell of each change; what was seen last."""
    deadline = time.monotonic() + limit_s
    wanted = running.wanted()
    states: dict[str, str] = {}
    while True:
        seen = await look(await running.provider.inventory(), agents, wanted, running.version)
        now = {one.record.name: one.state for one in seen}
        for name, state in now.items():
            if states.get(name) != state:
                report(f"{name}: {state}")
        for name in states.keys() - now.keys():
            report(f"{name}: gone")
        states = now
        if not missing(running.stack, seen) or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(_STEP_S)


def _explain(
    running: Running, client: docker.DockerClient, seen: Sequence[Seen], problems: list[str], limit_s: float
) -> str:
    lines = [f"the stack {running.stack.name} is not whole after {limit_s:.0f} s:"]
    lines += [f"  {problem}" for problem in problems]
    sick = [one for one in seen if not one.well] or [one for one in seen if one.record.role is Role.SCALER]
    for one in sick:
        lines.append(f"{one.record.name}: {one.state} ({one.reason}); the last lines of its log:")
        raw = client.api.logs(one.record.id, tail=_LOG_LINES)
        lines += [f"  {line}" for line in raw.decode(errors="replace").splitlines()]
    lines.append("What runs was left running: 'smd up' goes on, 'smd down' removes it.")
    return "\n".join(lines)
