"""Who takes the lease when its holder has died, and how often scalers try."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.lease import Mark
from sipmediadeploy.scaler.lease import Lease
from tests.lease_store import MemoryLeaseStore
from tests.simulation.clock import run


class BusyStore(MemoryLeaseStore):
    """Deleting takes a second, as on a small cloud; it counts who tries."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.refuses = False

    async def delete(self, record_id: str) -> bool:
        self.tries += 1
        await asyncio.sleep(1.0)
        if self.refuses:
            raise ProviderError("too busy")
        return await super().delete(record_id)


async def _follow(store: BusyStore, turns: range, within_s: float) -> list[bool]:
    """Which of the scalers with those turns lead so long after their leader died."""
    await store.create("demo-scaler-9", 1, Mark())

    def lease(turn: int) -> Lease:
        return Lease(store, f"demo-scaler-{turn}", lambda: 1, lambda _what: None, turn=lambda _holder: turn)

    leases = [lease(turn) for turn in turns]
    async with AsyncExitStack() as ending:
        for one in leases:
            task = asyncio.create_task(one.run(asyncio.Event()))
            ending.callback(task.cancel)
        await asyncio.sleep(within_s)
        return [one.leads for one in leases]


def test_of_eight_scalers_few_try_to_follow_a_leader_that_died() -> None:
    async def main() -> None:
        store = BusyStore()
        assert await _follow(store, range(8), 9.0) == [True] + 7 * [False]
        # Those that try beside it slow it down: eight at a time let nobody lead for minutes on a small cloud.
        assert store.tries <= 3

    run(main())


def test_when_the_first_in_turn_is_dead_too_the_second_one_follows_half_a_second_later() -> None:
    async def main() -> None:
        assert await _follow(BusyStore(), range(1, 3), 9.5) == [True, False]

    run(main())


def test_a_scaler_that_tries_in_vain_tries_less_and_less_often() -> None:
    async def main() -> None:
        store = BusyStore()
        store.refuses = True
        assert await _follow(store, range(1), 33.0) == [False]
        assert 4 <= store.tries <= 9
        store.refuses = False

    run(main())
