"""The audit trail: kept over restarts, copied between scalers, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipmediadeploy.scaler import journal as module
from sipmediadeploy.scaler.commands import REPLACE, unwanted
from sipmediadeploy.scaler.journal import Journal


def texts(journal: Journal) -> list[str]:
    return [entry.event for entry in journal.entries]


def test_it_goes_on_after_a_restart_and_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "events"
    first = Journal("a", path)
    first.event("one", replica="x", reason="why")
    first.event("two")
    path.write_text(path.read_text() + '{"id": "cut')
    second = Journal("a", path)
    second.event("three")
    assert texts(second) == ["one", "two", "three"]
    assert second.entries[0].fields == {"replica": "x", "reason": "why"}
    assert len({entry.id for entry in second.entries}) == 3


def test_scalers_copy_what_is_new_and_nothing_twice(tmp_path: Path) -> None:
    a, b = Journal("a", tmp_path / "a"), Journal("b", tmp_path / "b")
    a.event("one")
    trail = a.after("", 0)
    b.copy(trail.entries)
    b.copy(trail.entries)
    b.event("two")
    a.event("three")
    newer = a.after(trail.boot, trail.position)
    assert [entry.event for entry in newer.entries] == ["three"]
    b.copy(newer.entries)
    a.copy(b.after("", 0).entries)
    assert sorted(texts(a)) == sorted(texts(b)) == ["one", "three", "two"]
    assert a.after("another boot", 3).entries == tuple(a.entries)


def test_it_is_bounded_and_positions_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    journal = Journal("a", tmp_path / "events")
    for number in range(21):
        journal.event(str(number))
    trail = journal.after("", 0)
    assert len(journal.entries) <= 20
    assert trail.position == 21
    journal.event("next")
    assert [entry.event for entry in journal.after(trail.boot, trail.position).entries] == ["next"]
    assert len((tmp_path / "events").read_text().splitlines()) == len(journal.entries)


def test_a_journal_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal("a", tmp_path / "file" / "events")
    journal.event("one")
    journal.event("two")
    assert texts(journal) == ["one", "two"]


def test_what_an_operator_wants_replaced_is_known_to_every_scaler_that_copied_it(tmp_path: Path) -> None:
    a, b = Journal("a", tmp_path / "a"), Journal("b", tmp_path / "b")
    a.event(REPLACE, replica="demo-gateway-0", replica_id="id1")
    b.copy(a.after("", 0).entries)
    assert unwanted(b) == {"id1"}
