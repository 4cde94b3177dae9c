"""The verdict names what did not arrive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sipmediadeploy.gateway.testcall.report import (
    Flow,
    Heard,
    Second,
    Seen,
    Summary,
    problems,
    second_text,
    summary_json,
    summary_text,
)
from sipmediadeploy.gateway.testcall.sound import Tone

FLOWING = Second(
    8,
    audio_in=Flow(400, 64000),
    video_in=Flow(900, 900000),
    heard=Heard(-15.0, (Tone(440.0, -12.0),)),
    seen=Seen(30, 1280, 720, "20c040", "20c040"),
)
GOOD = Summary(8.0, 20, 300, 150, 240, last=FLOWING, bye_status=200)


def changed(**values: Any) -> Summary:
    fields = {name: getattr(GOOD, name) for name in Summary.__dataclass_fields__}
    return Summary(**{**fields, **values})


def test_a_call_with_sound_and_picture_is_good() -> None:
    assert problems(GOOD, video=True) == []
    assert json.loads(summary_json(GOOD, True))["verdict"] == "ok"
    assert "OK: sound and picture arrived" in summary_text(GOOD, True)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (changed(last=Second(8, video_in=Flow(9))), "no sound arrived"),
        (changed(first_sound_ms=None), "only silence arrived"),
        (changed(last=Second(8, audio_in=Flow(9))), "no picture arrived"),
        (changed(first_frame_ms=None), "no frame could be decoded"),
        (changed(bye_status=408), "the BYE got 408"),
    ],
)
def test_what_is_missing_is_named(summary: Summary, words: str) -> None:
    assert any(words in problem for problem in problems(summary, video=True))
    assert "FAILED" in summary_text(summary, True)
    assert json.loads(summary_json(summary, True))["verdict"] == "failed"


def test_an_audio_only_call_needs_no_picture() -> None:
    assert problems(changed(last=Second(8, audio_in=Flow(9)), first_frame_ms=None), video=False) == []


def test_pictures_that_are_only_counted_need_no_decoded_frame() -> None:
    assert problems(changed(first_frame_ms=None, decoding=False), video=True) == []


def test_a_second_shows_level_tone_size_and_colour() -> None:
    text = second_text(FLOWING, video=True)
    assert "-15 dB 440 Hz" in text
    assert "1280x720 #20c040" in text
