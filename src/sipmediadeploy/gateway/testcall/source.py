"""Threads that push generated or looped media into the pipeline, each frame at its time of the wall clock."""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

from gi.repository import Gst

from sipmediadeploy.gateway.testcall.elements import CHUNK_BYTES, CHUNK_MS, PCM_RATE, Clip
from sipmediadeploy.gateway.testcall.options import Options
from sipmediadeploy.gateway.testcall.picture import LOOP_MS, Painter

_AMPLITUDE = 8000
BEEP_MS = 200
BEEP_EVERY_MS = 1000


def tone_loop(hz: int, beep: bool) -> bytes:
    """One turn (:data:`LOOP_MS`) of a tone, which fits into it without a jump; a beep has hard edges."""
    samples = array("h")
    for index in range(PCM_RATE * LOOP_MS // 1000):
        on = not beep or index * 1000 // PCM_RATE % BEEP_EVERY_MS < BEEP_MS
        samples.append(int(_AMPLITUDE * math.sin(2 * math.pi * hz * index / PCM_RATE)) if on else 0)
    return samples.tobytes()


class Feeder:
    """Pushes one buffer per tick into an appsrc until stopped.

    ``make(tick)`` gives the buffer of a tick, counted from the epoch of the wall clock so that what is sent
    tells when it was made; None sends nothing. Ticks that were missed by more than 200 ms are left out.
    """

    def __init__(
        self, pipeline: Gst.Pipeline, source: Any, per_second: int, make: Callable[[int], bytes | None]
    ) -> None:
        self._pipeline, self._source, self._per_second, self._make = pipeline, source, per_second, make
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=source.get_name(), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        first = tick = int(time.time() * self._per_second) + 1
        # A step of the wall clock must not disturb the pace: it is read once.
        wall_to_mono = time.monotonic() - time.time()
        base: int | None = None
        while not self._stopping.wait(max(0.0, tick / self._per_second + wall_to_mono - time.monotonic())):
            late = time.monotonic() - wall_to_mono - tick / self._per_second
            if late > 0.2:
                tick += int(late * self._per_second)
            data = self._make(tick)
            if data is not None:
                if base is None:
                    base = self._running_time() - (tick - first) * Gst.SECOND // self._per_second
                buffer = Gst.Buffer.new_wrapped(data)
                buffer.pts = base + (tick - first) * Gst.SECOND // self._per_second
                buffer.duration = Gst.SECOND // self._per_second
                if self._source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
            tick += 1

    def _running_time(self) -> int:
        clock = self._pipeline.get_clock()
        return max(0, clock.get_time() - self._pipeline.get_base_time()) if clock else 0


def audio_chunks(options: Options, clip: Clip | None) -> Callable[[int], bytes]:
    """Chunks of 20 ms of the clip's sound or of the tone, each sent when it has ended, as by a microphone."""
    pcm = clip.pcm if clip and clip.pcm else tone_loop(options.tone_hz, options.beep)
    count = len(pcm) // CHUNK_BYTES

    def chunk(tick: int) -> bytes:
        at = (tick - 1) % count * CHUNK_BYTES
        return pcm[at : at + CHUNK_BYTES]

    return chunk


def live_frames(options: Options) -> Callable[[int], bytes]:
    """Raw frames with the time of day."""
    painter = Painter(options.width, options.height, options.name, options.colour)

    def frame(_tick: int) -> bytes:
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
        return painter.frame(clock, int(now * 1000))

    return frame


def clip_frames(clip: Clip) -> Callable[[int], bytes | None]:
    """Encoded frames; starts at an IDR, and goes on at one after a gap."""
    expected: int | None = None

    def frame(tick: int) -> bytes | None:
        nonlocal expected
        index = tick % len(clip.access_units)
        if tick != expected and not clip.key[index]:
            return None
        expected = tick + 1
        return clip.access_units[index]

    return frame


CHUNKS_PER_SECOND = 1000 // CHUNK_MS
