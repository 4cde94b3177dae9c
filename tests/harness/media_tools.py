"""Making and checking pictures and sound in tests."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WHOLE = (0.0, 0.0, 1.0, 1.0)
CODE_AREA = (0.08, 0.30, 0.42, 0.70)
"""Where ``smd call`` shows its solid colour (shares of the picture: left, top, right, bottom)."""


def read_wav(path: Path) -> tuple[NDArray[np.float64], int]:
    """The first channel (full scale is 1.0) and the sample rate.

    Takes a file whose writer was killed too, with lengths in its header that are wrong: it reads to the end.
    """
    data = path.read_bytes()
    with wave.open(io.BytesIO(data)) as header:
        channels, rate, width = header.getnchannels(), header.getframerate(), header.getsampwidth()
    if width != 2:
        raise ValueError(f"{path}: {8 * width}-bit samples, not 16")
    start = data.index(b"data") + 8
    samples = np.frombuffer(data[start : start + (len(data) - start) // (2 * channels) * 2 * channels], "<i2")
    return samples[::channels] / 32768, rate


def dominant_frequency(samples: NDArray[np.float64], rate: int) -> float:
    """The loudest frequency in Hz; 0.0 for silence (under -60 dBFS)."""
    if len(samples) < rate // 10 or level_db(samples) < -60:
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    spectrum[: int(30 * len(samples) / rate)] = 0
    return float(np.argmax(spectrum) * rate / len(samples))


def tone_level_db(samples: NDArray[np.float64], rate: int, hz: float) -> float:
    """Level of one tone (within 5 Hz) in dB below full scale: hears one voice among several."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) * 4 / len(samples)
    width = len(samples) / rate
    near = spectrum[max(1, int((hz - 5) * width)) : int((hz + 5) * width) + 2]
    return float(20 * np.log10(near.max() + 1e-9))


def level_db(samples: NDArray[np.float64]) -> float:
    """RMS level in dBFS; -100 for silence."""
    mean = float(np.mean(samples**2)) if len(samples) else 0.0
    return max(-100.0, 10 * float(np.log10(mean))) if mean else -100.0


def write_tone(
    path: Path, hz: float, seconds: float, rate: int = 48000, channels: int = 1, *, bursts: bool = False
) -> Path:
    """A 16-bit WAV file with a sine at -12 dBFS, as Chromium's fake capture takes it.

    ``bursts``: 300 ms of it and 200 ms of silence in turn, which is more like speech.
    """
    at = np.arange(int(seconds * rate)) / rate
    wave_form = np.sin(2 * np.pi * hz * at) * 0.25 * 32767
    if bursts:
        wave_form *= at % 0.5 < 0.3
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(wave_form.astype("<i2"), channels).tobytes())
    return path


def write_mjpeg(
    path: Path, colour: str, seconds: float, fps: int = 25, size: tuple[int, int] = (640, 360)
) -> Path:
    """A Motion JPEG file in one colour (RRGGBB), for Chromium's fake capture and for baresip."""
    frame = io.BytesIO()
    Image.new("RGB", size, f"#{colour}").save(frame, "JPEG", quality=90, subsampling=2)
    path.write_bytes(frame.getvalue() * int(seconds * fps))
    return path


def mean_colour(path: Path, area: tuple[float, float, float, float] = WHOLE) -> str:
    """Mean colour (RRGGBB) of an area of a picture file; the area is given in shares of the picture."""
    with Image.open(path) as image:
        left, top, right, bottom = (
            round(share * side) for share, side in zip(area, image.size * 2, strict=True)
        )
        pixels = np.asarray(image.convert("RGB").crop((left, top, right, bottom)), dtype=float)
    return bytes(round(v) for v in pixels.reshape(-1, 3).mean(axis=0)).hex()


def colour_distance(one: str, other: str) -> int:
    """The largest difference of a channel, 0 to 255. Lossy coding and matrix mix-ups cost up to about 25."""
    return max(abs(a - b) for a, b in zip(bytes.fromhex(one), bytes.fromhex(other), strict=True))


def json_lines(output: str | Iterable[str]) -> list[dict[str, Any]]:
    """The JSON objects among the lines of ``smd call --json``."""
    lines = output.splitlines() if isinstance(output, str) else output
    return [json.loads(line) for line in lines if line.startswith("{")]


def summary_of(output: str | Iterable[str]) -> dict[str, Any]:
    """The summary of ``smd call --json``. Raises AssertionError with what was printed when there is none."""
    events = json_lines(output)
    found = [event for event in events if event["event"] == "summary"]
    assert found, f"no summary in {events}"
    return found[-1]
