"""Which faults are whose turn on the lab."""

from __future__ import annotations

from itertools import chain, combinations

from tests.harness.openstack.fault_run import FAULTS, turn_of


def test_every_fault_has_its_turn_and_each_commit_has_all_kinds() -> None:
    turns = [turn_of(f"{number:040x}") for number in range(3)]
    assert sorted(chain(*turns[0])) == sorted(set(FAULTS) - {"leader-killed"})
    assert {tuple(turn[0]) for turn in turns} == {tuple(run) for run in turns[0]}
    for one, other in combinations(turns[0], 2):
        assert {name.rpartition("-")[2] for name in one + other} == {"killed", "hung", "deleted"}
