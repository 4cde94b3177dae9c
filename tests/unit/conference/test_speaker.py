"""Who is shown."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.speaker import HOLD_S, INTERRUPT_S, Floor, choose, heard

ALL = ("ann", "bob", "cid")


def shown(floor: Floor, now: float, candidates: tuple[str, ...] = ALL) -> str | None:
    return choose(floor, candidates, now)[0].shown


def test_without_a_picture_nobody_is_shown() -> None:
    assert choose(Floor(), (), 0.0) == (Floor(), None)


def test_in_silence_the_longest_present_is_shown() -> None:
    assert shown(Floor(), 0.0) == "ann"


def test_who_speaks_at_the_start_is_shown_at_once() -> None:
    assert shown(heard(Floor(), "bob", True, 0.0), 0.0) == "bob"


def test_a_silent_participant_makes_room_for_a_speaker_after_the_hold() -> None:
    floor = heard(Floor(shown="ann", shown_since=10.0), "bob", True, 10.1)
    unchanged, wait = choose(floor, ALL, 10.1)
    assert unchanged.shown == "ann"
    assert wait == pytest.approx(HOLD_S - 0.1)
    assert shown(floor, 10.0 + HOLD_S) == "bob"


def test_silence_takes_no_picture_away() -> None:
    floor = heard(heard(Floor(shown="bob", shown_since=0.0), "bob", True, 0.0), "bob", False, 5.0)
    assert choose(floor, ALL, 100.0) == (floor, None)


def test_an_aha_changes_nothing_and_an_interruption_does() -> None:
    floor = heard(Floor(shown="ann", shown_since=0.0), "ann", True, 0.0)
    floor = heard(floor, "bob", True, 10.0)
    assert shown(floor, 10.0 + INTERRUPT_S - 0.1) == "ann"
    assert shown(heard(floor, "bob", False, 11.0), 20.0) == "ann"
    assert shown(floor, 10.0 + INTERRUPT_S) == "bob"


def test_two_who_speak_all_the_time_do_not_alternate() -> None:
    floor = heard(heard(Floor(), "ann", True, 0.0), "bob", True, 0.0)
    faces = []
    for second in range(60):
        floor, _ = choose(floor, ALL, float(second))
        faces.append(floor.shown)
    assert sum(a != b for a, b in itertools.pairwise(faces)) <= 1


def test_who_has_left_is_replaced_at_once() -> None:
    floor = heard(Floor(shown="cid", shown_since=0.0), "bob", True, 0.0)
    assert shown(floor, 0.1, ("ann", "bob")) == "bob"


def test_a_speaker_without_a_picture_changes_nothing() -> None:
    floor = heard(Floor(shown="ann", shown_since=0.0), "sip", True, 1.0)
    assert shown(floor, 60.0) == "ann"


@given(
    st.lists(st.tuples(st.sampled_from(ALL), st.booleans(), st.floats(0.01, 3.0)), max_size=40),
    st.sets(st.sampled_from(ALL), min_size=1),
)
def test_only_a_candidate_is_shown_and_the_hold_is_kept(
    events: list[tuple[str, bool, float]], present: set[str]
) -> None:
    floor, now, candidates = Floor(), 0.0, tuple(sorted(present))
    changed_at = None
    for who, speaking, pause in events:
        now += pause
        before = floor.shown
        floor, wait = choose(heard(floor, who, speaking, now), candidates, now)
        assert floor.shown in candidates
        assert wait is None or wait > 0
        if floor.shown != before:
            assert changed_at is None or now - changed_at >= HOLD_S - 1e-6
            changed_at = now
