"""The check that compares audit trails finds two leaders, or it would be worth nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipmediadeploy.protocol.scaler import Entry
from sipmediadeploy.scaler.journal import Journal
from tests.harness.api_faults.scalers import leads_doubly

Told = tuple[float, str, int]


def trail(path: Path, who: str, *told: Told) -> Journal:
    journal = Journal(who, path / who)
    journal.copy(
        Entry(id=f"{who}-{number}", at=at, who=who, event=event, fields={"term": term})
        for number, (at, event, term) in enumerate(told)
    )
    return journal


def test_one_after_the_other_is_well(tmp_path: Path) -> None:
    a = trail(tmp_path, "a", (1, "leads", 1), (2, "create started", 1), (5, "stands by", 1), (20, "leads", 3))
    b = trail(tmp_path, "b", (6, "leads", 2), (15, "stands by", 2))
    assert leads_doubly([a, b]) == []


@pytest.mark.parametrize(
    ("of_a", "of_b", "said"),
    [
        ([(1, "leads", 1), (7, "stands by", 1)], [(6, "leads", 2)], "b led from 6.0, and a until 7.0"),
        ([(1, "leads", 1)], [(6, "leads", 2), (7, "stands by", 2)], "b led from 6.0, and a until"),
        ([(1, "leads", 2), (5, "stands by", 2)], [(6, "leads", 2)], "b led by term 2 after a by term 2"),
        (
            [(1, "leads", 1), (5, "stands by", 1), (8, "create started", 1)],
            [(6, "leads", 2)],
            "a acted at 8.0 and did not lead: create started",
        ),
    ],
    ids=["the old one stops late", "the old one never stops", "one term for two", "one acts without leading"],
)
def test_two_at_a_time_are_found(tmp_path: Path, of_a: list[Told], of_b: list[Told], said: str) -> None:
    (wrong,) = leads_doubly([trail(tmp_path, "a", *of_a), trail(tmp_path, "b", *of_b)])
    assert wrong.startswith(said)
