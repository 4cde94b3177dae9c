"""What is in a second of sound: level and tones. Pure, without numpy: the gateway image has none."""

from __future__ import annotations

import cmath
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

_POINTS = 4096
_MAX_TONES = 6


@dataclass(frozen=True, slots=True)
class Tone:
    """A peak of the spectrum."""

    hz: float
    db: float
    """Level of the sine it stands for, in dB below full scale (0 = a full-scale sine)."""


SOUND_FLOOR_DB = -50.0
"""Quieter than this is no sound."""


class Silence:
    """How long nothing was heard, to the length of one piece of sound (tens of milliseconds)."""

    def __init__(self) -> None:
        """Nothing has arrived yet."""
        self._sound_at: float | None = None
        self._longest = 0.0

    def note(self, level_db: float, now: float) -> None:
        """A piece of sound, or of none, has arrived; ``now`` in seconds of any clock."""
        if level_db > SOUND_FLOOR_DB or self._sound_at is None:
            if self._sound_at is not None:
                self._longest = max(self._longest, now - self._sound_at)
            self._sound_at = now

    def take(self, now: float) -> float:
        """The longest silence since the last call, whole if it began before; in seconds."""
        longest, self._longest = self._longest, 0.0
        return max(longest, now - self._sound_at) if self._sound_at is not None else 0.0


def level_db(samples: Sequence[int]) -> float:
    """RMS level of 16-bit samples in dBFS (a full-scale sine has -3.0); -100.0 for silence or nothing."""
    if not samples:
        return -100.0
    mean = sum(sample * sample for sample in samples) / len(samples)
    return max(-100.0, 10 * math.log10(mean / 32768**2)) if mean else -100.0


def tones(samples: Sequence[int], rate: int, floor_db: float = -45.0, below_db: float = 20.0) -> list[Tone]:
    """The tones in 16-bit mono samples, loudest first, at most six.

    Looks at the loudest 4096 samples. A tone is a local peak above ``floor_db`` and not more than
    ``below_db`` under the loudest one, good to about 1 Hz at 16 kHz. Empty when there are too few samples.
    """
    if len(samples) < _POINTS:
        return []
    samples = _loudest(samples)
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / _POINTS) for i in range(_POINTS)]
    spectrum = _fft([s * w / 32768 for s, w in zip(samples, window, strict=True)])
    # A Hann window halves the amplitude, and a real sine's energy is split between +f and -f.
    power = [20 * math.log10(abs(value) * 4 / _POINTS + 1e-9) for value in spectrum[: _POINTS // 2]]
    found = [
        _peak(power, i, rate)
        for i in range(4, len(power) - 2)
        if power[i] > floor_db and power[i] == max(power[i - 2 : i + 3])
    ]
    found.sort(key=lambda tone: -tone.db)
    return [tone for tone in found if tone.db > found[0].db - below_db][:_MAX_TONES]


def _loudest(samples: Sequence[int]) -> Sequence[int]:
    """The part of 4096 samples with the most energy, in steps of half of that; the last of equals."""
    starts = range(len(samples) - _POINTS, -1, -_POINTS // 2)
    parts = [samples[start : start + _POINTS] for start in starts]
    return max(parts, key=lambda part: level_db(part))


def _peak(power: list[float], i: int, rate: int) -> Tone:
    """Parabola through the three points around a peak."""
    left, mid, right = power[i - 1 : i + 2]
    bend = left - 2 * mid + right
    shift = 0.5 * (left - right) / bend if bend else 0.0
    return Tone(round((i + shift) * rate / _POINTS, 1), round(mid - 0.25 * (left - right) * shift, 1))


def _fft(values: Sequence[complex]) -> list[complex]:
    """Radix-2 transform; the length is a power of two."""
    count = len(values)
    if count == 1:
        return [complex(values[0])]
    even, odd = _fft(values[::2]), _fft(values[1::2])
    turned = [cmath.rect(1, -2 * math.pi * i / count) * value for i, value in enumerate(odd)]
    pairs = list(zip(even, turned, strict=True))
    return [a + b for a, b in pairs] + [a - b for a, b in pairs]


def samples_of(data: bytes) -> array[int]:
    """Samples of native 16-bit PCM."""
    return array("h", data[: len(data) // 2 * 2])
