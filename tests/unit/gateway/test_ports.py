"""RTP port pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.ports import PortPairs, PortsExhausted


def test_pairs_are_even_within_the_range_and_freed_ones_come_last() -> None:
    ports = PortPairs(40001, 40008)
    assert [ports.take(), ports.take()] == [40002, 40004]
    ports.give_back(40002)
    assert [ports.take(), ports.take()] == [40006, 40002]
    with pytest.raises(PortsExhausted):
        ports.take()


@given(st.lists(st.integers(0, 8)))
def test_no_pair_is_ever_handed_out_twice(steps: list[int]) -> None:
    ports = PortPairs(40000, 40009)
    taken: list[int] = []
    for step in steps:
        if step < len(taken):
            freed = taken.pop(step)
            ports.give_back(freed)
            ports.give_back(freed)
        elif ports.free:
            taken.append(ports.take())
        assert len(set(taken)) == len(taken)
        assert ports.free + len(taken) == 5
