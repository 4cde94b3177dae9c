"""Tones are found where they are, and silence is silence."""

from __future__ import annotations

import math
import random

import pytest

from sipmediadeploy.gateway.testcall.sound import Silence, level_db, samples_of, tones

RATE = 16000


def mix(*parts: tuple[float, float], seconds: float = 1.0) -> list[int]:
    """Samples with a sine for each (Hz, dBFS)."""
    return [
        round(sum(32767 * 10 ** (db / 20) * math.sin(2 * math.pi * hz * i / RATE) for hz, db in parts))
        for i in range(int(seconds * RATE))
    ]


@pytest.mark.parametrize("hz", [60.0, 440.0, 600.0, 1000.3, 3399.0])
def test_a_tone_is_found_with_its_level(hz: float) -> None:
    found = tones(mix((hz, -20)), RATE)
    assert [tone.hz for tone in found] == [pytest.approx(hz, abs=1)]
    assert found[0].db == pytest.approx(-20, abs=0.5)


def test_each_of_several_speakers_is_heard() -> None:
    found = tones(mix((440, -12), (600, -18), (1000, -24)), RATE)
    assert [tone.hz for tone in found] == pytest.approx([440, 600, 1000], abs=1)


def test_noise_far_under_a_tone_is_not_a_tone() -> None:
    dice = random.Random(1)
    noisy = [sample + dice.randint(-100, 100) for sample in mix((440, -12))]
    assert len(tones(noisy, RATE)) == 1


def test_a_beep_anywhere_in_the_second_is_found() -> None:
    beep = [0] * 3000 + mix((1000, -12), seconds=0.2) + [0] * 9800
    assert tones(beep, RATE)[0].hz == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("samples", [[], [0] * 16000, [1, -1] * 8000])
def test_silence_has_no_tones(samples: list[int]) -> None:
    assert tones(samples, RATE) == []
    assert level_db(samples) < -80


def test_a_full_scale_sine_is_3_db_under_full_scale() -> None:
    assert level_db(mix((440, 0))) == pytest.approx(-3, abs=0.1)


def test_half_a_sample_at_the_end_is_left_out() -> None:
    assert len(samples_of(b"\1\0\2\0\3")) == 2


def test_a_silence_is_as_long_as_it_was_wherever_a_second_ends() -> None:
    silence = Silence()
    for now in (0.0, 0.5, 2.5, 3.0):
        silence.note(-12.0, now)
        silence.note(-90.0, now + 0.1)
        if now == 0.5:
            assert silence.take(1.0) == pytest.approx(0.5)
            assert silence.take(2.0) == pytest.approx(1.5)  # it goes on
    assert silence.take(3.1) == pytest.approx(2.0)
    assert silence.take(3.2) == pytest.approx(0.2)


def test_before_anything_has_arrived_there_is_no_silence() -> None:
    assert Silence().take(9.0) == 0.0
