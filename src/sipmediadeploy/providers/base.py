"""The provider seam: where replicas live.

A provider makes, lists and deletes replicas of *one* stack, and touches nothing that is not labelled as that
stack's. Methods are coroutines with a time limit of their own and never block the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Protocol

from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.lease import LeaseStore
from sipmediadeploy.stack import Limits, Role, Stack


class ProviderError(Exception):
    """A provider could not do what was asked. The message says what, on what, and what to do."""

    def __init__(
        self, said: str, retry_after_s: float | None = None, *, hint: str = "", again: str = ""
    ) -> None:
        """``said``: what went wrong, on what.

        ``hint``: what people can do about it. ``again``: that, or when, a scaler tries it again by itself.
        ``retry_after_s``: the provider wants to be left alone for so long.
        """
        super().__init__("; ".join(part for part in (said, again, hint) if part))
        self.said, self.hint, self.again = said, hint, again
        self.retry_after_s = retry_after_s


class Life(StrEnum):
    """The provider's own view of a replica."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    """The provider has given it up, and yet it runs and may have calls: it is replaced in order."""


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """One replica in the provider's inventory."""

    id: str
    name: str
    role: Role
    slot: int
    address: IPv4Address
    life: Life
    created_at: float
    """Unix time in seconds."""
    config_hash: str
    """The service hash of the document that it was made with."""
    version: str
    """The version of the image that it was made from."""
    zone: str = ""
    """Where it is, of the provider's zones; empty: it has none."""


SERVICE_ADDRESS = "the service address"
"""What a floating IP is mapped to, where there are service addresses."""


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """The public address of a pool."""

    role: Role
    address: IPv4Address
    mapped_to: str | None
    """:data:`SERVICE_ADDRESS`, a replica's id, another thing of the provider's, or nothing."""


class Provider(Protocol):
    """Makes, lists and deletes the replicas of one stack."""

    @property
    def service_addresses(self) -> bool:
        """Whether an address can move between replicas by VRRP; if not, floating IPs are mapped anew."""
        ...

    @property
    def api_floating_ip(self) -> bool:
        """Whether the scalers have a floating IP, mapped to who leads, by which operators reach them."""
        ...

    @property
    def zones(self) -> tuple[str, ...]:
        """Over what replicas of a pool are spread; empty: one machine, or the provider does it."""
        ...

    async def inventory(self) -> list[ReplicaRecord]:
        """All replicas of the stack, dead ones included.

        Raises:
            ProviderError: the inventory can't be read; that says nothing about the replicas.
        """
        ...

    async def floating_ips(self) -> list[FloatingIp]:
        """The public addresses of pools that the provider maps.

        Raises:
            ProviderError: they can't be read.
        """
        ...

    async def map_floating_ip(self, address: IPv4Address, to: str) -> None:
        """Map one to :data:`SERVICE_ADDRESS` or to a replica, by its id, in one step.

        Raises:
            ProviderError: it could not be mapped.
        """
        ...

    async def make_floating_ip(self, role: Role, to: str) -> None:
        """Make that of a pool which has none, mapped to a replica, by its id.

        Raises:
            ProviderError: it could not be made.
        """
        ...

    async def create(self, document: ReplicaDocument, limits: Limits, zone: str = "") -> ReplicaRecord:
        """Make and start one replica from its document, in one of the ``zones`` if there are any.

        Raises:
            ProviderError: it could not be made; nothing of it is left behind.
        """
        ...

    async def delete(self, replica_id: str) -> None:
        """Stop and remove a replica. Deleting what is already gone is no error."""
        ...

    def lease(self) -> LeaseStore:
        """Where the lease of the stack's scalers is kept."""
        ...

    def close(self) -> None:
        """Let go of connections; those that are needed later are made anew."""
        ...


MakeProvider = Callable[[Stack, str, Secrets], Provider]
"""What an entry point of the group ``sipmediadeploy.providers`` leads to: given the stack, the version of
the images that replicas are made from, and the stack's secrets. It does no I/O; raises ``ProviderError``."""
