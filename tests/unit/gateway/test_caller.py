"""Who calls which room, and what an INFO says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.caller import display_name, dtmf_signal, room_name, wants_keyframe


@pytest.mark.parametrize("user", ["demo", "0", "Team-Süd_1.2~x+y=z", "x" * 64])
def test_a_room_name_is_taken_as_it_is(user: str) -> None:
    assert room_name(user) == user


@pytest.mark.parametrize("user", ["", "a b", "a/b", "../x", "x" * 65, "a\0", "a\n", "<b>", "a;b", "日本?"])
def test_what_is_no_room_name_is_none(user: str) -> None:
    assert room_name(user) is None


def test_the_same_letters_are_the_same_room() -> None:
    assert room_name("cafe\u0301") == room_name("caf\u00e9")


@pytest.mark.parametrize(
    ("name", "user", "shown"),
    [
        ("Room 1", "anna", "Room 1"),
        ("", "anna", "anna"),
        ("  ", "", "SIP"),
        ("a\x00b\r\nc", "", "a b c"),
        ("x" * 100, "", "x" * 64),
    ],
)
def test_the_name_that_others_see(name: str, user: str, shown: str) -> None:
    assert display_name(name, user) == shown


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"<media_control><to_encoder><picture_fast_update/></to_encoder></media_control>", True),
        (b"<x:picture_fast_update></x:picture_fast_update>", True),
        (b"<general_error>picture_fast_update</general_error>", False),
        (b"", False),
    ],
)
def test_a_fast_update_is_seen(body: bytes, wanted: bool) -> None:
    assert wants_keyframe(body) is wanted


@given(st.binary(max_size=400))
def test_any_body_is_one_digit_or_none(body: bytes) -> None:
    for content_type in ("application/dtmf-relay", "application/dtmf"):
        digit = dtmf_signal(content_type, body)
        assert digit is None or digit in set("0123456789ABCD*#")
