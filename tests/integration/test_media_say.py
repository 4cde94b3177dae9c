"""What is said to the terminal: a sound file in the mix."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path

import pytest

from tests.harness.waiting import until_async
from tests.integration.media_terminal import RED
from tests.integration.test_media_call import HIGH, LOW, call, side

pytestmark = pytest.mark.integration
FIRST, SECOND = 700.0, 1300.0


def tone(path: Path, frequency: float, seconds: float) -> str:
    """A WAV file as espeak-ng writes it: 22050 Hz, mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        samples = (math.sin(2 * math.pi * frequency * n / 22050) for n in range(int(seconds * 22050)))
        file.writeframes(b"".join(struct.pack("<h", int(12000 * sample)) for sample in samples))
    return str(path)


async def test_it_is_said_to_a_terminal_that_is_in_no_room(tmp_path: Path) -> None:
    async with side(LOW, RED) as a:
        for _ in range(2):
            await a.worker.say(tone(tmp_path / "a.wav", FIRST, 3))
            await until_async("a hears it", lambda: a.terminal.hears(FIRST), 10)


async def test_the_room_goes_on_beside_it_and_a_newer_one_takes_its_place(tmp_path: Path) -> None:
    async with call() as (a, _):
        await until_async("a hears b", lambda: a.terminal.hears(HIGH))
        await a.worker.say(tone(tmp_path / "a.wav", FIRST, 60))
        await until_async("a hears it beside b", lambda: a.terminal.hears(FIRST, HIGH), 10)
        await a.worker.say(tone(tmp_path / "b.wav", SECOND, 2))
        await until_async("a hears the newer one", lambda: a.terminal.hears(SECOND, HIGH), 10)

        async def only_b() -> bool:
            return await a.terminal.hears(HIGH) and not await a.terminal.hears(SECOND)

        await until_async("it ends, and b goes on", only_b, 10)
        assert not await a.terminal.hears(FIRST)


async def test_a_file_that_is_none_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    async with call() as (a, _):
        await a.worker.say(str(tmp_path / "a.wav"))
        await a.worker.say(str(tmp_path / "missing.wav"))
        await until_async("a hears b", lambda: a.terminal.hears(HIGH))
        assert a.happened.exited == []
