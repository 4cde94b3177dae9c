"""A stack elsewhere, as commands use it: what is known of it is what its scalers tell over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import Ask, T
from sipmediadeploy.protocol.scaler import (
    API_PORT,
    ScalerClient,
    ScalerError,
    ScalerSilent,
    WrongScaler,
    operator_token,
)
from sipmediadeploy.protocol.scaler_tls import client_context
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.base import FloatingIp, Provider
from sipmediadeploy.scaler.main import load_provider
from sipmediadeploy.stack import Role, Stack

_THROUGH_SSH = f"Through SSH: ssh -N -L {API_PORT}:127.0.0.1:{API_PORT} USER@SCALER, and --api 127.0.0.1"


@dataclass(frozen=True, slots=True)
class RemoteStack:
    """See ``cli.stackrun.RunningStack``."""

    stack: Stack
    host: str
    port: int
    master: str = field(repr=False)

    async def look(self) -> StackNow:
        """Every replica and what it said to the scaler that answers."""
        return await self.ask(lambda client, address: client.stack(address))

    async def ask(self, ask: Ask[T]) -> T:
        """The answer of the scaler that is reached; it sends on to the leader what is the leader's."""
        tls = client_context(self.master, self.stack.name)
        try:
            async with ScalerClient(operator_token(self.master), self.port, tls) as client:
                return await ask(client, self.host)
        except ScalerSilent as e:
            allowed = "openstack.api_from must have this machine's network"
            raise CommandError(f"stack {self.stack.name}: {e}; {allowed}. {_THROUGH_SSH}") from None
        except WrongScaler as e:
            raise CommandError(f"stack {self.stack.name}: {e}") from None
        except ScalerError as e:
            raise CommandError(str(e)) from None


def find_remote(place: Place, stack: Stack, api: str | None) -> RemoteStack:
    """The ``stack`` of ``place``, at the address ``api`` or at that which the provider has for its API.

    Raises:
        CommandError: there is no such address, or the secrets can't be read.
        ProviderError: the cloud can't be asked for it.
    """
    master = place.master_secret()
    host, port = parse_address(api) if api else (_floating_ip(stack, master), API_PORT)
    return RemoteStack(stack, host, port, master)


def parse_address(text: str) -> tuple[str, int]:
    """``ADDRESS[:PORT]`` as what stands in a URL, and the port; an IPv6 address is in brackets.

    Raises:
        CommandError: it is neither.
    """
    found = re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", text)
    port = int(found[2] or API_PORT) if found else 0
    if found is None or not 0 < port < 65_536:
        expected = f"expected ADDRESS or ADDRESS:PORT, such as 127.0.0.1:{API_PORT}"
        raise CommandError(f"--api: {expected}, not '{text}'")
    return found[1], port


def _floating_ip(stack: Stack, master: str) -> str:
    with _cloud(stack, master) as provider:
        found = _of(asyncio.run(provider.floating_ips()), Role.SCALER)
    if found is None:
        why = "no scaler has led yet" if provider.api_floating_ip else "openstack.api_from names nobody"
        raise CommandError(
            f"stack {stack.name}: its scalers have no floating IP ({why}); say where the API is: --api "
            f"ADDRESS[:PORT]. {_THROUGH_SSH}"
        )
    return str(found)


def find_floating_ip(place: Place, stack: Stack, role: Role, api: str | None) -> IPv4Address | None:
    """The floating IP of a pool, as the scalers' API (at ``api``) tells it, or without that the cloud; None:
    it has none.

    Raises:
        CommandError: there is no such API, or the secrets can't be read.
        ProviderError: the cloud can't be asked for it.
    """
    if api:
        return _of(asyncio.run(find_remote(place, stack, api).look()).floating_ips, role)
    with _cloud(stack, place.master_secret()) as provider:
        return _of(asyncio.run(provider.floating_ips()), role)


def _cloud(stack: Stack, master: str) -> contextlib.closing[Provider]:
    """The provider, to be asked once: a cloud serves a limited number of connections."""
    return contextlib.closing(load_provider(stack, "", Secrets(master=master)))


def _of(floating_ips: Iterable[FloatingIp], role: Role) -> IPv4Address | None:
    return next((ip.address for ip in floating_ips if ip.role is role), None)
