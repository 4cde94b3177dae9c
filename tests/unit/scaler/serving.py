"""A scaler's API as it is served to the outside, on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from sipmediadeploy.protocol.scaler import ScalerClient, operator_token
from sipmediadeploy.protocol.scaler_tls import client_context, server_context
from sipmediadeploy.scaler.api import Outside, served_outside
from sipmediadeploy.scaler.door import Door, Limits
from sipmediadeploy.scaler.journal import Journal
from tests.harness.ports import free_port
from tests.unit.scaler.fake_scaler import FakeScaler, sources

MASTER = "m" * 43
TOKEN = operator_token(MASTER)
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Served:
    """Where a scaler's API is served."""

    port: int
    inside: int

    def client(self, master: str = MASTER, stack: str = "demo", token: str = TOKEN) -> ScalerClient:
        return ScalerClient(token, self.port, client_context(master, stack))


@contextlib.asynccontextmanager
async def serving(
    scaler: FakeScaler, tmp_path: Path, limits: Limits | None = None, now_takes_s: float = 0.0
) -> AsyncIterator[Served]:
    """``scaler`` over TLS to the outside; the others of its stack are at ``inside``."""
    where = Served(free_port(), free_port())
    door = Door(server_context(MASTER, "demo"), limits)
    given = sources(scaler, Journal(scaler.own_name, tmp_path / scaler.own_name), now_takes_s)
    async with (
        ScalerClient(TOKEN, where.inside) as others,
        served_outside(given, TOKEN, Outside(door, others), where.port),
    ):
        yield where
