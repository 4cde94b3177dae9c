"""The stores in which a lease is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.providers.docker.lease import mark_of, shares_of
from sipmediadeploy.providers.lease import Mark
from tests.harness.lease_store import MemoryLeaseStore, keeps_the_contract


async def test_the_store_in_memory_keeps_the_contract() -> None:
    await keeps_the_contract(MemoryLeaseStore())


@given(st.builds(Mark, st.integers(0, 59_999), st.booleans(), st.booleans()))
def test_a_mark_is_cpu_shares_that_the_engine_takes(mark: Mark) -> None:
    assert mark_of(shares_of(mark)) == mark
    assert 2 <= shares_of(mark) <= 262_144
