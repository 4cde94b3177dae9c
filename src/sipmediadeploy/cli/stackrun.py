"""A stack that runs, as commands use it: on this host's engine, or elsewhere (``cli.remote``)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol, TypeVar

import docker
import requests
from docker.errors import DockerException

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.protocol.client import HttpAgents
from sipmediadeploy.protocol.scaler import ScalerAway, ScalerClient, ScalerError, operator_token
from sipmediadeploy.protocol.secrets import Secrets, agent_token
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.base import Provider
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.engine import connect, reason
from sipmediadeploy.providers.docker.network import find_network
from sipmediadeploy.scaler.look import look
from sipmediadeploy.scaler.main import load_provider, wanted_hashes
from sipmediadeploy.stack import Role, Stack, load_stack

T = TypeVar("T")

Ask = Callable[[ScalerClient, str], Awaitable[T]]
"""``ask(client, address)`` asks one scaler."""


class RunningStack(Protocol):
    """A stack that has been brought up, wherever it runs."""

    @property
    def stack(self) -> Stack:
        """As the stack file has it."""
        ...

    async def look(self) -> StackNow:
        """Every replica and what it says now.

        Raises:
            CommandError, ProviderError: that can't be learned.
        """
        ...

    async def ask(self, ask: Ask[T]) -> T:
        """What the leader says, asked through any scaler.

        Raises:
            CommandError: none answers, or it refuses.
        """
        ...


@contextlib.contextmanager
def reached(place: Place, api: str | None, what: str) -> Iterator[RunningStack]:
    """The stack of ``place`` while ``what`` is done with it, by whatever way leads there: docker's engine,
    or the scalers' API (at ``api``, if that is given).

    Raises:
        CommandError, ProviderError: there is no way there.
        StackError: its file can't be used.
    """
    stack = load_stack(place.stack_file)
    if stack.provider == "docker":
        refuse_api(stack, api)
        with engine_errors(what), contextlib.closing(connect()) as client:
            yield find_running(place, client)
    else:
        from sipmediadeploy.cli.remote import find_remote

        yield find_remote(place, stack, api)


def refuse_api(stack: Stack, api: str | None) -> None:
    """Check that nobody asks for the API of a stack whose engine is asked.

    Raises:
        CommandError: somebody does.
    """
    if api:
        raise CommandError(f"{stack.name} is a stack on this machine: leave --api and SMD_API out")


@dataclass(frozen=True, slots=True)
class Running:
    """What commands need to know of a stack on this host's engine; a :class:`RunningStack`."""

    stack: Stack
    secrets: Secrets
    subnet: IPv4Network
    version: str
    """Of the images that replicas should have."""
    provider: Provider

    def wanted(self) -> dict[tuple[Role, int], str]:
        """The service hashes of up-to-date replicas."""
        return wanted_hashes(self.stack, self.subnet, self.secrets, self.version)

    @contextlib.asynccontextmanager
    async def agents(self) -> AsyncIterator[HttpAgents]:
        """The client of the replicas' agents."""
        async with HttpAgents(lambda name: agent_token(self.secrets.master, name)) as agents:
            yield agents

    async def look(self) -> StackNow:
        """Every replica and what it says now.

        Raises:
            ProviderError: the inventory can't be read.
        """
        async with self.agents() as agents:
            seen = await look(await self.provider.inventory(), agents, self.wanted(), self.version)
        return StackNow(subnet=self.subnet, replicas=seen)

    async def ask(self, ask: Ask[T]) -> T:
        """The answer of the first scaler that gives one; standbys send commands on to the leader.

        The oldest is asked first: one that was just made has no copy of the audit trail yet.
        """
        records = sorted(await self.provider.inventory(), key=lambda record: record.created_at)
        away = []
        async with ScalerClient(operator_token(self.secrets.master)) as client:
            for record in records:
                if record.role is not Role.SCALER:
                    continue
                try:
                    return await ask(client, str(record.address))
                except ScalerAway as e:
                    away.append(f"{record.name}: {e}")
                except ScalerError as e:
                    raise CommandError(str(e)) from None
        none = f"stack {self.stack.name} has no scaler; 'smd up' makes one"
        raise CommandError("; ".join(away) or none)


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turns what the engine refuses into a message for the user; ``what`` was being done."""
    try:
        yield
    except (DockerException, requests.RequestException) as e:
        raise CommandError(f"{what}: {reason(e)}") from None


def find_running(place: Place, client: docker.DockerClient) -> Running:
    """The stack of ``place`` as it runs.

    Raises:
        CommandError: it is not up.
        StackError: its file can't be used.
    """
    stack = load_stack(place.stack_file)
    if stack.provider != "docker":
        raise CommandError(
            f"this command is for stacks on this machine; {stack.name} is for {stack.provider}"
        )
    network = find_network(client, stack.name)
    if network is None:
        raise CommandError(f"stack {stack.name} is not up. Bring it up with: smd up")
    version = scaler_version(client, stack.name)
    secrets = place.secrets(stack)
    return Running(stack, secrets, network.subnet, version, load_provider(stack, version, secrets))


def scaler_version(client: docker.DockerClient, stack: str) -> str:
    """The version that the stack is at: that of its newest scaler (empty: it has none)."""
    wanted = [f"{labels.STACK}={stack}", f"{labels.ROLE}={Role.SCALER}", f"{labels.KIND}={labels.REPLICA}"]
    found = client.api.containers(all=True, filters={"label": wanted})
    newest = max(found, key=lambda one: float(one["Labels"].get(labels.CREATED, 0)), default=None)
    return str(newest["Labels"].get(labels.VERSION, "")) if newest else ""


def find_container(client: docker.DockerClient, stack: str, replica: str) -> str:
    """The id of the container of ``replica``, whose name may be given without the stack's.

    Raises:
        CommandError: there is no such replica.
    """
    wanted = [f"{labels.STACK}={stack}", f"{labels.KIND}={labels.REPLICA}"]
    found = client.api.containers(all=True, filters={"label": wanted})
    by_name = {one["Labels"].get(labels.NAME, ""): str(one["Id"]) for one in found}
    for name in (replica, f"{stack}-{replica}"):
        if name in by_name:
            return by_name[name]
    names = ", ".join(sorted(by_name)) or "none; bring the stack up with: smd up"
    raise CommandError(f"no replica is named {replica}. There are: {names}")
