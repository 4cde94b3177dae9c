"""The lease on real Neutron."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from sipmediadeploy.providers.lease import LeaseTaken, Mark, reserve
from sipmediadeploy.providers.openstack.lease import PACE
from sipmediadeploy.scaler.lease import Lease, LeaseTiming
from tests.harness.lease_store import keeps_the_contract
from tests.harness.waiting import until
from tests.lab.provider.conftest import PATIENCE, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


@pytest.mark.promise(2)
async def test_neutron_keeps_the_contract(clean: Lab) -> None:
    await keeps_the_contract(clean.lease_store())


@pytest.mark.promise(2)
async def test_of_eight_scalers_exactly_one_creates_and_one_deletes(clean: Lab) -> None:
    stores = [clean.lease_store() for _ in range(8)]
    await asyncio.gather(*(store.read() for store in stores))  # all are connected

    async def create(number: int) -> bool:
        try:
            await stores[number].create(f"scaler-{number}", 1, Mark())
        except LeaseTaken:
            return False
        return True

    for _ in range(3):
        began = time.monotonic()
        assert sum(await asyncio.gather(*(create(number) for number in range(8)))) == 1
        created = time.monotonic()
        records = await asyncio.gather(*(store.read() for store in stores))
        assert len({record.id for record in records if record is not None}) == 1
        (record,) = {record.id for record in records if record is not None}
        read = time.monotonic()
        assert sum(await asyncio.gather(*(store.delete(record) for store in stores))) == 1
        spent = [created - began, read - created, time.monotonic() - read]
        print("\n8 create, read, delete: " + ", ".join(f"{seconds:.2f} s" for seconds in spent))


@pytest.mark.promise(2)
async def test_of_three_scalers_one_leads_and_the_next_one_follows(clean: Lab) -> None:
    await reserve(clean.lease_store(), None)
    timing = LeaseTiming().slower(PACE * PATIENCE)
    stops = [asyncio.Event() for _ in range(3)]
    stores = [clean.lease_store(PATIENCE) for _ in range(3)]
    leases = [Lease(store, f"scaler-{n}", lambda: 0, print, timing) for n, store in enumerate(stores)]
    tasks = [asyncio.create_task(lease.run(stop)) for lease, stop in zip(leases, stops, strict=True)]
    led = []
    try:
        for _ in range(3):
            began = time.monotonic()
            await until("one leads", lambda: sum(lease.leads for lease in leases) == 1, 40 * PATIENCE)
            number = [lease.leads for lease in leases].index(True)
            led.append(leases[number].term)
            print(f"\nscaler-{number} leads, term {led[-1]}, after {time.monotonic() - began:.1f} s")
            tasks[number].cancel()  # killed
            await asyncio.wait((tasks[number],))
            await until("it is sure no more", lambda: not any(lease.leads for lease in leases), 8 * PATIENCE)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert all(older < newer for older, newer in itertools.pairwise(led))
