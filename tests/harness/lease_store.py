"""The lease's store in memory, and the contract that every store keeps."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sipmediadeploy.providers.lease import LeaseGone, LeaseRecord, LeaseStore, LeaseTaken, Mark


class MemoryLeaseStore:
    """Implements ``providers.lease.LeaseStore``."""

    pace = 1.0

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self._made = 0

    @staticmethod
    def number(record_id: str) -> int:
        """The how-many-eth record it is."""
        return int(record_id.removeprefix("lease"))

    async def read(self) -> LeaseRecord | None:
        return self.record

    async def create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        if self.record is not None:
            raise LeaseTaken(self.record.holder)
        self._made += 1
        self.record = LeaseRecord(f"lease{self._made}", holder, term, mark)
        return self.record

    async def change(self, record_id: str, mark: Mark) -> None:
        if self.record is None or self.record.id != record_id:
            raise LeaseGone(record_id)
        self.record = replace(self.record, mark=mark)

    async def delete(self, record_id: str) -> bool:
        if self.record is None or self.record.id != record_id:
            return False
        self.record = None
        return True


async def keeps_the_contract(store: LeaseStore) -> None:
    """Fails when ``store``, which is empty, does not do what the lease needs."""
    assert await store.read() is None
    made = await store.create("a", 3, Mark())
    assert await store.read() == made
    assert (made.holder, made.term, made.mark) == ("a", 3, Mark())
    for mark in (Mark(1), Mark(2, released=True), Mark(3, paused=True), Mark(4, released=True, paused=True)):
        await store.change(made.id, mark)
        found = await store.read()
        assert found is not None
        assert (found.id, found.term, found.mark) == (made.id, 3, mark)

    async def create(holder: str) -> bool:
        try:
            await store.create(holder, 4, Mark())
        except LeaseTaken:
            return False
        return True

    assert not await create("b")
    assert sum(await asyncio.gather(*(store.delete(made.id) for _ in range(4)))) == 1
    assert await store.read() is None
    for _ in range(3):
        assert sum(await asyncio.gather(*(create(f"c{n}") for n in range(8)))) == 1, "exactly one creates it"
        winner = await store.read()
        assert winner is not None
        assert winner.id != made.id
        try:
            await store.change(made.id, Mark(9))
        except LeaseGone:
            pass
        else:
            raise AssertionError("the old record was changed after it had been deleted")
        assert not await store.delete(made.id)
        assert await store.read() == winner
        assert await store.delete(winner.id)
