"""The first scaler of a stack, which makes all other replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from sipmediadeploy.cli.stackrun import Running
from sipmediadeploy.providers.base import Life, ProviderError, ReplicaRecord
from sipmediadeploy.providers.lease import LeaseTaken, reserve
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.main import limits_of
from sipmediadeploy.scaler.pool import next_number, replica_name
from sipmediadeploy.stack import Role

_CONTAINER_START_LIMIT_S, _SERVER_START_LIMIT_S = 30.0, 180.0
_ROUNDS = 5


async def ensure_scaler(running: Running, report: Callable[[str], None]) -> None:
    """See to it that an up-to-date scaler runs; outdated and dead ones go, and it makes the others anew.

    An outdated leader makes another outdated scaler for each that goes, until it has gone itself. So they go
    together, and the inventory is read again until there is none.

    Raises:
        ProviderError: the inventory can't be read, or a scaler neither be removed nor made.
    """
    limit_s = _CONTAINER_START_LIMIT_S if running.stack.provider == "docker" else _SERVER_START_LIMIT_S
    wanted, known = running.wanted(), set[str]()
    for _ in range(_ROUNDS):
        inventory = await running.provider.inventory()
        scalers = [record for record in inventory if record.role is Role.SCALER]
        known.update(record.name for record in scalers)
        good = [record for record in scalers if _is_current(record, wanted, running.version, limit_s)]
        old = [record for record in scalers if record not in good]
        for record in old:
            report(f"{record.name}: removing it, it is outdated or does not run")
        await asyncio.gather(*(running.provider.delete(record.id) for record in old))
        if good or (not old and await _start(running, known, bool(known or inventory), report)):
            return
    raise ProviderError(
        f"scalers of {running.stack.name} come anew as often as they are removed",
        hint="see who else makes them, and repeat the command",
    )


async def _start(
    running: Running, known: Collection[str], existed: bool, report: Callable[[str], None]
) -> bool:
    """Make a scaler with a number above those ``known``; False when an outdated leader made one before."""
    provider, stack = running.provider, running.stack
    name = replica_name(stack.name, Role.SCALER, next_number(known))
    try:
        await reserve(provider.lease(), None if existed else name)
    except LeaseTaken:
        pass
    except ProviderError as e:
        report(f"{e}: the scaler makes it, and leads some seconds later")
    report(f"{name}: starting it; it makes the other replicas")
    document = make_document(stack, running.subnet, running.secrets, running.version, Role.SCALER, 0, name)
    try:
        await provider.create(document, limits_of(stack, Role.SCALER))
    except ProviderError:
        if any(record.role is Role.SCALER for record in await provider.inventory()):
            return False
        raise
    return True


def _is_current(
    record: ReplicaRecord, wanted: dict[tuple[Role, int], str], version: str, start_limit_s: float
) -> bool:
    current = record.config_hash == wanted.get((record.role, record.slot)) and record.version == version
    # One that was made and never started (by a command that was killed) is no scaler either.
    forgotten = record.life is Life.STARTING and time.time() - record.created_at > start_limit_s
    return current and record.life is not Life.STOPPED and not forgotten
