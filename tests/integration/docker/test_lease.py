"""The lease on a real engine."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.teardown import remove_stack
from sipmediadeploy.providers.lease import Mark, reserve
from sipmediadeploy.scaler.lease import Lease, LeaseTiming
from tests.harness.lease_store import keeps_the_contract
from tests.harness.waiting import until
from tests.integration.docker.conftest import Trial

pytestmark = pytest.mark.integration


@pytest.mark.promise(2)
async def test_the_engine_keeps_the_contract(trial: Trial) -> None:
    await keeps_the_contract(trial.provider.lease())


async def test_removing_the_stack_removes_the_lease(trial: Trial) -> None:
    store = trial.provider.lease()
    await store.create("a", 1, Mark())
    await asyncio.to_thread(remove_stack, trial.client, trial.stack.name)
    assert await store.read() is None


async def test_another_container_of_that_name_is_no_lease(trial: Trial) -> None:
    name = f"smd-{trial.stack.name}-lease"
    made = trial.client.api.create_container(f"smd/scaler:{trial.version}", name=name)
    try:
        with pytest.raises(ProviderError, match="is not the lease"):
            await trial.provider.lease().read()
    finally:
        trial.client.api.remove_container(made["Id"])


@pytest.mark.promise(2)
async def test_of_three_scalers_one_leads_and_the_next_one_follows(trial: Trial) -> None:
    timing = LeaseTiming(duration=1.0, renew=0.2, look=0.1)
    store = trial.provider.lease()
    await reserve(store, None)
    stops = [asyncio.Event() for _ in range(3)]
    leases = [
        Lease(trial.provider.lease(), f"scaler-{n}", lambda: 0, lambda _what: None, timing) for n in range(3)
    ]
    tasks = [asyncio.create_task(lease.run(stop)) for lease, stop in zip(leases, stops, strict=True)]
    led = []
    try:
        for _ in range(3):
            await until("one leads", lambda: sum(lease.leads for lease in leases) == 1, 10)
            number = [lease.leads for lease in leases].index(True)
            led.append(leases[number].term)
            tasks[number].cancel()  # killed
            await asyncio.wait((tasks[number],))
            await until("it is sure no more", lambda: not any(lease.leads for lease in leases), 3)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert all(older < newer for older, newer in itertools.pairwise(led))
