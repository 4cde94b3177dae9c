"""What a video room says, and what is asked of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.janus_room import (
    Line,
    Source,
    Switch,
    Update,
    create_body,
    gone_of,
    lines_of,
    next_step,
    publishers_of,
    speaking_of,
    without,
)


def sound(feed: str) -> Source:
    return Source(feed, "0", "audio", "opus")


def picture(feed: str) -> Source:
    return Source(feed, "1", "video", "h264")


def line(mid: str, source: Source) -> Line:
    return Line(mid, source.medium, (source.feed, source.mid))


def test_publishers_are_read_without_dummies_and_disabled_streams() -> None:
    data = {
        "publishers": [
            {
                "id": "a",
                "display": "Ann",
                "streams": [
                    {"type": "audio", "mid": "0", "codec": "opus"},
                    {"type": "video", "mid": "1", "disabled": True},
                ],
            },
            {"id": "d", "dummy": True},
        ]
    }
    (ann,) = publishers_of(data)
    assert ann.source("audio", "opus") == sound("a")
    assert ann.source("video", "h264") is None


def test_who_speaks_at_ones_arrival_is_known() -> None:
    assert speaking_of({"publishers": [{"id": "a", "talking": True}, {"id": "b"}]}) == {"a": True}
    assert speaking_of({"videoroom": "stopped-talking", "id": "a"}) == {"a": False}


def test_every_way_of_going_is_read() -> None:
    assert [gone_of({key: "a"}) for key in ("unpublished", "leaving", "kicked")] == ["a"] * 3
    assert gone_of({"videoroom": "event"}) is None


def test_an_idle_line_has_no_source() -> None:
    streams = [
        {"mid": "0", "type": "audio", "active": True, "feed_id": "a", "feed_mid": "0"},
        {"mid": "1", "type": "video", "active": False},
    ]
    assert lines_of({"streams": streams}) == (line("0", sound("a")), Line("1", "video", None))


def test_nothing_is_asked_when_all_is_as_wanted() -> None:
    assert next_step([line("0", sound("a"))], [sound("a")]) is None


def test_another_picture_is_a_switch_without_renegotiation() -> None:
    lines = [line("0", sound("a")), line("1", picture("a")), line("2", sound("b"))]
    assert next_step(lines, [sound("a"), sound("b"), picture("b")]) == Switch("1", picture("b"))


def test_sound_comes_before_the_switch() -> None:
    lines = [line("0", sound("a")), line("1", picture("a"))]
    wanted = [sound("a"), sound("b"), picture("b")]
    assert next_step(lines, wanted) == Update((sound("b"),), ())


def test_a_picture_whose_source_has_left_is_subscribed_anew() -> None:
    lines = without([line("0", sound("a")), line("1", picture("a"))], "a")
    assert next_step(lines, [sound("b"), picture("b")]) == Update((sound("b"), picture("b")), ())


def test_the_requests_are_as_janus_documents_them() -> None:
    assert Update((sound("b"),), ("4",)).body() == {
        "request": "update",
        "subscribe": [{"feed": "b", "mid": "0"}],
        "unsubscribe": [{"sub_mid": "4"}],
    }
    assert Switch("1", picture("b")).body() == {
        "request": "switch",
        "streams": [{"feed": "b", "mid": "1", "sub_mid": "1"}],
    }


def test_rooms_are_h264_only_and_their_secret_differs() -> None:
    one, other = create_body("a", 1500), create_body("a", 1500)
    assert (one["videocodec"], one["audiolevel_event"], one["permanent"]) == ("h264", True, False)
    assert one["secret"] != other["secret"]


FEEDS = st.sampled_from("abcd")


@given(st.sets(FEEDS), st.none() | FEEDS, st.sets(FEEDS), st.none() | FEEDS, FEEDS)
def test_any_subscription_becomes_any_other_in_few_steps(
    sounds: set[str], shown: str | None, wanted_sounds: set[str], wanted: str | None, gone: str
) -> None:
    have = [*map(sound, sorted(sounds)), *([picture(shown)] if shown else [])]
    lines = without([line(str(n), s) for n, s in enumerate(have)], gone)
    want = [*map(sound, sorted(wanted_sounds)), *([picture(wanted)] if wanted else [])]
    for _ in range(3):
        step = next_step(lines, want)
        if step is None:
            break
        lines = after(lines, step)
    assert next_step(lines, want) is None
    assert sorted(x.source for x in lines if x.source) == sorted((s.feed, s.mid) for s in want)


def after(lines: tuple[Line, ...], step: Update | Switch) -> tuple[Line, ...]:
    """The lines as Janus leaves them."""
    if isinstance(step, Switch):
        return tuple(line(x.mid, step.to) if x.mid == step.line else x for x in lines)
    kept = tuple(Line(x.mid, x.medium, None) if x.mid in step.unsubscribe else x for x in lines)
    return kept + tuple(line(f"new{n}", s) for n, s in enumerate(step.subscribe, len(lines)))
