"""The scaler's process: ``python -m sipmediadeploy.scaler.main [REPLICA_DOCUMENT]``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.metadata import entry_points
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import structlog

from sipmediadeploy.protocol.client import Agents, HttpAgents
from sipmediadeploy.protocol.replica import (
    PATH,
    TURN_PORT,
    ReplicaDocument,
    ScalerService,
    load_replica_document,
)
from sipmediadeploy.protocol.scaler import API_PORT, ScalerClient, operator_token
from sipmediadeploy.protocol.secrets import Secrets, agent_token
from sipmediadeploy.providers.base import MakeProvider, Provider, ProviderError
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.scaler.act import Authority, Executor
from sipmediadeploy.scaler.address_watch import AddressWatch
from sipmediadeploy.scaler.api import Outside, Sources, copy_journals, served, served_outside
from sipmediadeploy.scaler.commands import unwanted
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.door import Door
from sipmediadeploy.scaler.health import serves
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.look import stack_now
from sipmediadeploy.scaler.loop import Hooks, Report, Scaler
from sipmediadeploy.scaler.metrics import Metrics
from sipmediadeploy.scaler.model import SURGE, Action, Target
from sipmediadeploy.stack import Limits, Role, Stack, StackError

ALIVE = Path("/run/smd/scaler.alive")
"""Written at each step; the agent's health check looks at its age, operators at its content (JSON)."""

MakeDocument = Callable[[Role, int, str], ReplicaDocument]


def make_scaler(
    stack: Stack,
    subnet: IPv4Network,
    secrets: Secrets,
    version: str,
    own_name: str,
    provider: Provider,
    agents: Agents,
    hooks: Hooks,
) -> tuple[Scaler, Target, MakeDocument]:
    """A scaler for ``stack``, what it wants, and how it makes documents."""

    def document(role: Role, slot: int, name: str) -> ReplicaDocument:
        return make_document(stack, subnet, secrets, version, role, slot, name)

    target = Target(
        stack=stack,
        version=version,
        hashes={
            (role, slot): document(role, slot, "any").service_hash() for role, slot in usable_slots(stack)
        },
        own_name=own_name,
        service_addresses=provider.service_addresses,
        api_floating_ip=provider.api_floating_ip,
        zones=provider.zones,
    )

    def executor(authority: Authority) -> Executor:
        limits = partial(limits_of, stack)
        return Executor(provider, agents, authority, document, limits, hooks.event, hooks.jitter)

    return Scaler(target, provider, agents, executor, hooks), target, document


def called_addresses(stack: Stack, subnet: IPv4Network) -> dict[Role, tuple[IPv4Address, int]]:
    """Where callers of each pool with a service address call: address and UDP port."""
    ports = {Role.KAMAILIO: stack.sip.port, Role.COTURN: TURN_PORT}
    found = {role: addresses.service_address(subnet, role) for role in ports}
    return {role: (address, ports[role]) for role, address in found.items() if address is not None}


def wanted_hashes(
    stack: Stack, subnet: IPv4Network, secrets: Secrets, version: str
) -> dict[tuple[Role, int], str]:
    """The service hash of an up-to-date replica in each usable slot."""
    return {
        (role, slot): make_document(stack, subnet, secrets, version, role, slot, "any").service_hash()
        for role, slot in usable_slots(stack)
    }


def usable_slots(stack: Stack) -> list[tuple[Role, int]]:
    """The slots that replicas of the stack may be in: the pools' numbers and room to replace beside them.

    Raises:
        StackError: the gateways and their calls do not fit the address plan.
    """
    pools = stack.pools
    ports = addresses.SLOTS[Role.GATEWAY]
    if stack.provider == "docker":  # elsewhere each gateway has all the ports of a machine of its own
        ports = (addresses.RTP_END - addresses.RTP_BASE) // (addresses.PORTS_PER_CALL * pools.gateway.calls)
    if ports < pools.gateway.max:
        raise StackError(
            f"pools.gateway: max {pools.gateway.max} of {pools.gateway.calls} calls each do not fit the RTP "
            f"ports of one machine; at most {ports} gateways of so many calls do"
        )
    wanted = {
        Role.KAMAILIO: pools.kamailio.replicas + SURGE,
        Role.COTURN: pools.coturn.replicas + SURGE,
        Role.SCALER: pools.scaler.replicas + SURGE,
        Role.GATEWAY: min(pools.gateway.max + SURGE, ports),
        Role.CONFERENCE_DEMO: 1 if stack.demo else 0,
    }
    return [(role, slot) for role, n in wanted.items() for slot in range(min(n, addresses.SLOTS[role]))]


def limits_of(stack: Stack, role: Role) -> Limits:
    """The resource limits of a replica of ``role``."""
    pools = stack.pools
    return {
        Role.KAMAILIO: pools.kamailio.limits,
        Role.COTURN: pools.coturn.limits,
        Role.SCALER: pools.scaler.limits,
        Role.GATEWAY: pools.gateway.limits,
        Role.CONFERENCE_DEMO: Limits(cpus=2.0, memory_mib=1024),
    }[role]


def load_provider(stack: Stack, version: str, secrets: Secrets) -> Provider:
    """The stack's provider, found by its entry point of the group ``sipmediadeploy.providers``; see
    ``providers.base.MakeProvider``.

    Raises:
        ProviderError: there is none of that name, or it can't be used.
    """
    for entry in entry_points(group="sipmediadeploy.providers", name=stack.provider):
        make: MakeProvider = entry.load()
        return make(stack, version, secrets)
    raise ProviderError(f"no provider '{stack.provider}' is installed")


class Reporter:
    """Writes the freshness file and the metrics, and tells the journal what has changed."""

    def __init__(self, journal: Journal, metrics: Metrics, path: Path = ALIVE) -> None:
        """``path`` is the freshness file."""
        self._journal = journal
        self._metrics = metrics
        self._path = path
        self._last = Report(False, None, 0, False, (), 0)

    def __call__(self, report: Report) -> None:
        """Take the report of one step."""
        self._metrics.step(
            time.monotonic(),
            report.leading,
            report.term,
            report.paused,
            len(report.problems),
            report.sight,
        )
        if report.leading != self._last.leading:
            self._journal.event("leads" if report.leading else "stands by", term=report.term)
        if report.paused != self._last.paused:
            self._journal.event("paused: it only watches" if report.paused else "resumed")
        now = {problem.about: problem.text for problem in report.problems}
        before = {problem.about for problem in self._last.problems}
        for about in now.keys() - before:
            self._journal.event("problem", problem=now[about])
        for about in before - now.keys():
            self._journal.event("problem is over", problem=about)
        self._last = report
        content = {
            "at": time.time(),
            "leading": report.leading,
            "leader": report.leader,
            "paused": report.paused,
            "term": report.term,
            "replicas": report.replicas,
            "blind": report.blind,
            "problems": [problem.text for problem in report.problems],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(content), encoding="utf-8")
        new.replace(self._path)


async def serve(document: ReplicaDocument, service: ScalerService) -> None:
    """Run the scaler that ``document`` describes until SIGTERM."""
    stack, secrets = service.stack_definition, service.secrets
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    journal, metrics = Journal(document.name), Metrics()
    watch = AddressWatch(called_addresses(stack, service.subnet))

    def event(phase: str, action: Action, error: str) -> None:
        journal.action(phase, action, error)
        metrics.action(phase, action, error)

    token = operator_token(secrets.master)
    provider = load_provider(stack, service.image_version, secrets)
    async with (
        HttpAgents(lambda name: agent_token(secrets.master, name)) as agents,
        ScalerClient(token) as others,
    ):
        scaler, target, _ = make_scaler(
            stack,
            service.subnet,
            secrets,
            service.image_version,
            document.name,
            provider,
            agents,
            Hooks(
                event=event,
                report=Reporter(journal, metrics),
                told=journal.event,
                unwanted=partial(unwanted, journal),
                timed=metrics.probe,
                serves=serves,
                address_silent_s=watch.silent_s,
            ),
        )
        journal.event("scaler starts", stack=stack.name, version=service.image_version)
        copying = asyncio.create_task(copy_journals(scaler, journal, others))
        watch.start()
        now = partial(stack_now, scaler, target, agents, service.subnet)
        sources = Sources(scaler, journal, metrics.text, now, agents.logs)
        async with (
            served(sources, str(document.address), token),
            api_outside(sources, token, others, service),
        ):
            await scaler.run(stop)
        copying.cancel()
        await watch.close()
        journal.event("scaler stops")


@contextlib.asynccontextmanager
async def api_outside(
    sources: Sources, token: str, others: ScalerClient, service: ScalerService
) -> AsyncIterator[None]:
    """Serve the API to the outside meanwhile, where the stack is not on the operator's own machine.

    When that can't be done it is reported, and no reason to leave the stack alone.
    """
    stack = service.stack_definition
    async with contextlib.AsyncExitStack() as serving:
        if stack.provider != "docker":
            # Loaded here: every command imports this module, and cryptography takes a tenth of a second.
            from sipmediadeploy.protocol.scaler_tls import server_context

            door = Door(server_context(service.secrets.master, stack.name))
            try:
                await serving.enter_async_context(served_outside(sources, token, Outside(door, others)))
            except OSError as e:
                sources.journal.event("API is not served to the outside", port=API_PORT, error=str(e))
        yield


def main() -> int:
    """Run until SIGTERM. Exit code 2: the replica document can't be used."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ]
    )
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    try:
        document = load_replica_document(path)
    except (OSError, ValueError) as e:
        print(f"{path}: not a replica document: {type(e).__name__}", file=sys.stderr)
        return 2
    if not isinstance(document.service, ScalerService):
        print(f"{path}: this is a {document.role}, not a scaler", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(document, document.service))
    except (ProviderError, OSError) as e:
        print(f"scaler: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
