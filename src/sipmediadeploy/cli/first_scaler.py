"""The first scaler of a stack, which makes all other replicas."""

from __future__ import annotations

import time
from collections.abc import Callable

from sipmediadeploy.cli.stackrun import Running
from sipmediadeploy.providers.base import Life, ProviderError, ReplicaRecord
from sipmediadeploy.providers.lease import LeaseTaken, reserve
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.main import limits_of
from sipmediadeploy.scaler.pool import next_number, replica_name
from sipmediadeploy.stack import Role

_CONTAINER_START_LIMIT_S, _SERVER_START_LIMIT_S = 30.0, 180.0


async def ensure_scaler(running: Running, report: Callable[[str], None]) -> None:
    """See to it that an up-to-date scaler runs; outdated and dead ones go, and it makes the others anew."""
    provider = running.provider
    inventory = await provider.inventory()
    scalers = [record for record in inventory if record.role is Role.SCALER]
    wanted = running.wanted()
    on_docker = running.stack.provider == "docker"
    limit_s = _CONTAINER_START_LIMIT_S if on_docker else _SERVER_START_LIMIT_S
    good = [record for record in scalers if _is_current(record, wanted, running.version, limit_s)]
    for record in scalers:
        if record not in good:
            report(f"{record.name}: removing it, it is outdated or does not run")
            await provider.delete(record.id)
    if good:
        return
    name = replica_name(running.stack.name, Role.SCALER, next_number(record.name for record in scalers))
    try:
        await reserve(provider.lease(), None if inventory else name)
    except LeaseTaken:
        pass
    except ProviderError as e:
        report(f"{e}: the scaler makes it, and leads some seconds later")
    report(f"{name}: starting it; it makes the other replicas")
    document = make_document(
        running.stack, running.subnet, running.secrets, running.version, Role.SCALER, 0, name
    )
    await provider.create(document, limits_of(running.stack, Role.SCALER))


def _is_current(
    record: ReplicaRecord, wanted: dict[tuple[Role, int], str], version: str, start_limit_s: float
) -> bool:
    current = record.config_hash == wanted.get((record.role, record.slot)) and record.version == version
    # One that was made and never started (by a command that was killed) is no scaler either.
    forgotten = record.life is Life.STARTING and time.time() - record.created_at > start_limit_s
    return current and record.life is not Life.STOPPED and not forgotten
