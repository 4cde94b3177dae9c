"""The provider seam: where replicas live.

A provider makes, lists and deletes replicas of *one* stack, and touches nothing that is not labelled as that
stack's. Methods are coroutines with a time limit of their own and never block the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Protocol

from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.providers.lease import LeaseStore
from sipmediadeploy.stack import Limits, Role


class ProviderError(Exception):
    """A provider could not do what was asked. The message says what, on what, and what to do."""


class Life(StrEnum):
    """The provider's own view of a replica."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"


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


class Provider(Protocol):
    """Makes, lists and deletes the replicas of one stack."""

    async def inventory(self) -> list[ReplicaRecord]:
        """All replicas of the stack, dead ones included.

        Raises:
            ProviderError: the inventory can't be read; that says nothing about the replicas.
        """
        ...

    async def create(self, document: ReplicaDocument, limits: Limits) -> ReplicaRecord:
        """Make and start one replica from its document.

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
