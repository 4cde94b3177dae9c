"""The order in which a scaler tells what it does, and its turn among the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import Life
from sipmediadeploy.providers.lease import reserve
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.loop import Hooks, Report, Scaler
from sipmediadeploy.scaler.main import make_scaler
from sipmediadeploy.scaler.model import Action
from sipmediadeploy.stack import Role
from tests.simulation.clock import run
from tests.simulation.theatre import stack
from tests.simulation.world import SUBNET, World

SECRETS = Secrets(master="master")


def _scaler(world: World, slot: int, told: list[str]) -> Scaler:
    def event(phase: str, action: Action, error: str) -> None:
        told.append(f"{action.kind} {phase}")

    def report(report: Report) -> None:
        told.append("leads" if report.leading else "stands by")

    name = f"{world.stack.name}-scaler-{slot}"
    hooks = Hooks(event=event, report=report, told=lambda _what: None)
    scaler, _, _ = make_scaler(world.stack, SUBNET, SECRETS, "v1", name, world, world, hooks)
    return scaler


def _add_scaler(world: World, slot: int) -> Any:
    name = f"{world.stack.name}-scaler-{slot}"
    return world.add(make_document(world.stack, SUBNET, SECRETS, "v1", Role.SCALER, slot, name), 0.0)


def test_a_scaler_tells_that_it_leads_before_it_tells_what_it_begins() -> None:
    async def main() -> None:
        world, told = World(stack(), 1), list[str]()
        _add_scaler(world, 0)
        await reserve(world.store, "sim-scaler-0")
        stop = asyncio.Event()
        task = asyncio.create_task(_scaler(world, 0, told).run(stop))
        await asyncio.sleep(10.0)
        stop.set()
        await task
        assert told.index("leads") < told.index("create started")

    run(main())


def test_scalers_follow_by_their_slots_the_holder_and_the_dead_left_out() -> None:
    async def main() -> None:
        world = World(stack(), 1)
        records = [_add_scaler(world, slot).record for slot in (11, 2, 0, 1)]
        records = [replace(r, life=Life.STOPPED) if r.slot == 1 else r for r in records]

        def turn(slot: int, holder: str | None) -> int:
            scaler = _scaler(world, slot, [])
            scaler._records = tuple(records)
            return scaler._turn(holder)

        assert [turn(slot, None) for slot in (0, 2, 11)] == [0, 1, 2]
        assert [turn(slot, "sim-scaler-0") for slot in (2, 11)] == [0, 1]
        assert turn(5, None) == 3, "who is not listed comes last"

    run(main())
