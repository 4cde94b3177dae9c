"""Who takes the lease when its holder has died, and how often scalers try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.lease import FIRST_TERM, LeaseRecord, Mark, reserve
from sipmediadeploy.scaler.lease import Lease
from tests.harness.lease_store import MemoryLeaseStore
from tests.simulation.clock import run

T = TypeVar("T")


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


class SlowStore(MemoryLeaseStore):
    """Each request takes effect and is answered after delays in seconds that are given, and then quickly."""

    def __init__(self, delays: Sequence[float]) -> None:
        super().__init__()
        self._delays = list(delays)

    async def _slowly(self, request: Awaitable[T]) -> T:
        await self._delay()
        try:
            return await request
        finally:
            await self._delay()

    async def _delay(self) -> None:
        await asyncio.sleep(self._delays.pop() if self._delays else 0.05)

    async def read(self) -> LeaseRecord | None:
        return await self._slowly(super().read())

    async def create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        return await self._slowly(super().create(holder, term, mark))

    async def change(self, record_id: str, mark: Mark) -> None:
        await self._slowly(super().change(record_id, mark))

    async def delete(self, record_id: str) -> bool:
        return await self._slowly(super().delete(record_id))


@asynccontextmanager
async def _running(store: MemoryLeaseStore, scalers: Mapping[str, int]) -> AsyncIterator[list[Lease]]:
    """Leases of scalers by their names, and the highest term that each has heard of."""
    leases = [Lease(store, name, partial(int, term), lambda _what: None) for name, term in scalers.items()]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for lease in leases:
            tasks.create_task(lease.run(stop))
        yield leases
        stop.set()


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


def test_the_scaler_for_which_the_lease_was_made_leads_by_one_request() -> None:
    async def main() -> None:
        store = BusyStore()
        await reserve(store, "demo-scaler-0")
        async with _running(store, {"demo-scaler-0": 0, "demo-scaler-1": 0}) as (first, second):
            await asyncio.sleep(0.6)
            assert (first.leads, first.term, second.leads) == (True, FIRST_TERM, False)
            await asyncio.sleep(30.0)
            assert (first.leads, second.leads, store.tries) == (True, False, 0)

    run(main())


@pytest.mark.parametrize(
    ("holder", "mark", "highest"),
    [
        ("demo-scaler-1", Mark(), 0),
        ("demo-scaler-0", Mark(counter=1), 0),
        ("demo-scaler-0", Mark(), 1),
    ],
    ids=["another's", "it has been held", "a scaler has given orders"],
)
def test_any_other_record_is_taken_over_in_the_usual_way(holder: str, mark: Mark, highest: int) -> None:
    async def main() -> None:
        store = BusyStore()
        await store.create(holder, FIRST_TERM, mark)
        async with _running(store, {"demo-scaler-0": highest}) as (lease,):
            await asyncio.sleep(1.9)
            assert (lease.leader, store.tries) == (holder, 0)
            await asyncio.sleep(5.0)
            assert (lease.leads, lease.term, store.tries) == (True, FIRST_TERM + 1, 1)

    run(main())


@settings(max_examples=200, deadline=None)
@given(delays=st.lists(st.floats(0.0, 4.0), min_size=24, max_size=24), paused=st.booleans())
# One had never read the record, and read again while the other was between deleting it and making its own.
@example(delays=[*[0.0] * 13, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 4.0, 0.0, 0.0], paused=True)
def test_however_slow_a_store_is_two_never_lead_by_a_record_that_was_made_for_one(
    delays: list[float], paused: bool
) -> None:
    async def main() -> None:
        store = SlowStore(delays)
        await reserve(store, "demo-scaler-0")
        if paused:
            store.record = replace(store.record, mark=Mark(paused=True)) if store.record else None
        async with _running(store, {"demo-scaler-0": 0, "demo-scaler-1": 0}) as leases:
            for _ in range(400):
                await asyncio.sleep(0.1)
                assert sum(lease.leads for lease in leases) <= 1
            assert any(lease.leads for lease in leases)
            assert {lease.paused for lease in leases} == {paused}

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
