"""The agent's HTTP API, version 1: what goes over the wire between agents, scalers and the CLI."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address

from pydantic import BaseModel, ConfigDict, Field

from sipmediadeploy.stack import Role


class State(StrEnum):
    """The state of a replica."""

    BOOTING = "booting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    DRAINED = "drained"
    FAILED = "failed"


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Status(_Message):
    """``GET /v1/status``: what a replica says of itself."""

    name: str
    role: Role
    state: State
    reason: str = Field(description="why it is in this state, for an operator")
    calls: int = 0
    capacity: int = 0
    active: bool | None = Field(
        default=None,
        description="holds the pool's service address, or, a scaler, leads (None: the pool has neither)",
    )
    drained_by: str | None = Field(
        default=None, description="'scaler' or 'operator': who drained it; None: it is not drained"
    )
    retired: bool = Field(default=False, description="will never take a call again")
    version: str
    config_hash: str
    uptime_s: float
    term: int = Field(default=0, description="the highest scaler's term that this agent has seen")
    gateways_revision: str | None = Field(
        default=None, description="kamailio: hash of the gateway list in use"
    )
    warnings: tuple[str, ...] = Field(
        default=(),
        description="what an operator should know although the replica works, as 'WHAT: HOW IT IS NOW'",
    )


class Gateway(_Message):
    """One gateway as Kamailio is told of it."""

    name: str
    address: IPv4Address
    port: int = 5060
    free: int = Field(ge=0, description="free call places; 0 means: no new call now")


class Gateways(_Message):
    """``PUT /v1/gateways``: the gateways to use, with the scaler's term. An older term is refused (409)."""

    term: int
    gateways: tuple[Gateway, ...]

    @cached_property
    def revision(self) -> str:
        """A hash (16 hex digits) of the list, not the term: ``Status.gateways_revision`` of its user."""
        text = "".join(gateway.model_dump_json() for gateway in self.gateways)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Order(_Message):
    """Body of ``POST /v1/drain``, ``/v1/undrain`` and ``/v1/retire``."""

    term: int
    by: str = Field(
        default="scaler", description="'scaler' or 'operator': an operator's drain is undone by one only"
    )
