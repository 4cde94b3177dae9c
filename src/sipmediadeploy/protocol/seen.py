"""The stack as somebody has seen it: every replica with what its agent said, and what is beside them.

A scaler tells of it (``GET /v1/stack``) where the CLI can't ask agents itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv4Network

from pydantic import BaseModel, ConfigDict, Field

from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.providers.base import FloatingIp, Life, ReplicaRecord

WELL = (State.READY, State.BUSY)
_BOOTING_S = 20.0
"""A replica that was made so short a time ago and does not answer yet is taken to be booting."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica now."""

    record: ReplicaRecord
    status: Status | None
    error: str = ""
    """Why there is no status."""
    outdated: bool = False

    @property
    def state(self) -> str:
        """Its state in one word."""
        if self.record.life is Life.STOPPED:
            return "stopped"
        if self.status is not None:
            return str(self.status.state)
        young = time.time() - self.record.created_at < _BOOTING_S
        return str(State.BOOTING) if young else "silent"

    @property
    def well(self) -> bool:
        """It is up to date and does its job."""
        return self.status is not None and self.status.state in WELL and not self.outdated

    @property
    def reason(self) -> str:
        """Why it is in its state."""
        reason = self.status.reason if self.status is not None else self.error
        return f"outdated; {reason}" if self.outdated else reason


class StackNow(BaseModel):
    """``GET /v1/stack``: all replicas, asked just now by the scaler that answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    subnet: IPv4Network = Field(description="of the stack's own network")
    replicas: tuple[Seen, ...] = Field(description="by role and slot")
    floating_ips: tuple[FloatingIp, ...] = Field(default=(), description="of the pools")
    inventory_age_s: float | None = Field(
        default=0.0,
        description="how long ago the provider's list of replicas was read; None: never",
    )
