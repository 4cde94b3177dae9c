"""What arrives: watches decoded pictures and sound and keeps what the next report needs."""

from __future__ import annotations

import statistics
import threading
import time
import zlib
from array import array
from pathlib import Path
from typing import Any

from gi.repository import Gst, GstVideo

from sipmediadeploy.gateway.testcall.picture import (
    CODE_AREA,
    WHOLE,
    Area,
    age_ms,
    colour_text,
    read_strip,
    yuv_to_rgb,
)
from sipmediadeploy.gateway.testcall.report import Heard, Seen
from sipmediadeploy.gateway.testcall.sound import SOUND_FLOOR_DB, Silence, level_db, samples_of, tones
from sipmediadeploy.gateway.testcall.source import BEEP_EVERY_MS

HEARD_RATE = 16000
_GRID = 24
_BLOCK = HEARD_RATE // 200
_BEEP_LEVEL = 700
_QUIET_BLOCKS = 40


class _Arrivals:
    """When things arrived: the first and the longest gap."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.longest_gap = 0.0
        self._last: float | None = None

    def note(self, now: float) -> None:
        if self.first is None:
            self.first = now
        if self._last is not None:
            self.longest_gap = max(self.longest_gap, now - self._last)
        self._last = now

    def gap_until(self, now: float) -> float:
        """The longest gap, with the one that is still open."""
        return max(self.longest_gap, now - self._last) if self._last is not None else 0.0


class Ear:
    """Takes 16-bit mono sound at :data:`HEARD_RATE` from an appsink."""

    def __init__(self, sink: Any) -> None:
        self.arrivals = _Arrivals()
        self.first_sound: float | None = None
        self._lock = threading.Lock()
        self._samples = array("h")
        self._silence = Silence()
        self._quiet = 0
        self._delay: int | None = None
        sink.connect("new-sample", self._on_sample)

    def second(self) -> Heard:
        """The sound since the last call."""
        with self._lock:
            samples, self._samples = self._samples, array("h")
            delay, self._delay = self._delay, None
            silent_ms = round(1000 * self._silence.take(time.monotonic()))
        return Heard(round(level_db(samples), 1), tuple(tones(samples, HEARD_RATE)), silent_ms, delay)

    def _on_sample(self, sink: Any) -> Gst.FlowReturn:
        buffer = sink.emit("pull-sample").get_buffer()
        samples = samples_of(buffer.extract_dup(0, buffer.get_size()))
        now = time.monotonic()
        self.arrivals.note(now)
        level = level_db(samples)
        if self.first_sound is None and level > SOUND_FLOOR_DB:
            self.first_sound = now
        self._find_beep(samples)
        with self._lock:
            self._silence.note(level, now)
            self._samples.extend(samples)
            del self._samples[: -2 * HEARD_RATE]
        return Gst.FlowReturn.OK

    def _find_beep(self, samples: array[int]) -> None:
        """The delay of a beep's start: blocks of 5 ms, loud after at least 200 ms of quiet."""
        for start in range(0, len(samples), _BLOCK):
            if max(map(abs, samples[start : start + _BLOCK])) < _BEEP_LEVEL:
                self._quiet += 1
                continue
            if self._quiet >= _QUIET_BLOCKS:
                since_ms = (len(samples) - start) * 1000 // HEARD_RATE
                edge_ms = int(time.time() * 1000) - since_ms
                self._delay = edge_ms % BEEP_EVERY_MS + since_ms
            self._quiet = 0


class Eye:
    """Takes decoded I420 pictures from an appsink."""

    def __init__(self, sink: Any) -> None:
        self.arrivals = _Arrivals()
        self.frames = 0
        self._lock = threading.Lock()
        self._frames_reported = 0
        self._ages: list[int] = []
        self._sample: Any = None
        sink.connect("new-sample", self._on_sample)

    def second(self) -> Seen:
        """The picture now, and the frames since the last call."""
        with self._lock:
            sample = self._sample
            ages, self._ages = self._ages, []
            frames = self.frames - self._frames_reported
            self._frames_reported = self.frames
        if sample is None:
            return Seen()
        picture = _Picture(sample)
        return Seen(
            frames=frames,
            width=picture.width,
            height=picture.height,
            colour=colour_text(picture.mean(WHOLE)),
            code_colour=colour_text(picture.mean(CODE_AREA)),
            delay_ms=round(statistics.median(ages)) if ages else None,
        )

    def save(self, path: Path) -> bool:
        """Write the last picture as PNG; False when there is none. Raises OSError."""
        with self._lock:
            sample = self._sample
        if sample is None:
            return False
        rgb = GstVideo.video_convert_sample(
            sample, Gst.Caps.from_string("video/x-raw,format=RGB"), 5 * Gst.SECOND
        )
        path.write_bytes(_png(rgb))
        return True

    def _on_sample(self, sink: Any) -> Gst.FlowReturn:
        sample = sink.emit("pull-sample")
        self.arrivals.note(time.monotonic())
        strip = read_strip(_Picture(sample).luma)
        with self._lock:
            self._sample = sample
            self.frames += 1
            if strip is not None:
                self._ages.append(age_ms(strip, int(time.time() * 1000)))
        return Gst.FlowReturn.OK


class _Picture:
    """Points of an I420 sample, read without copying the frame."""

    def __init__(self, sample: Any) -> None:
        self._buffer = sample.get_buffer()
        info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
        meta = GstVideo.buffer_get_video_meta(self._buffer)
        self.width, self.height = info.width, info.height
        self._offset = list((meta or info).offset)
        self._stride = list((meta or info).stride)
        self._bt709 = info.colorimetry.matrix == GstVideo.VideoColorMatrix.BT709

    def luma(self, x: float, y: float) -> float:
        return self._at(0, x, y)

    def mean(self, area: Area) -> tuple[int, int, int]:
        """Mean colour of a grid of points in the area."""
        left, top, right, bottom = area
        points = [
            (left + (right - left) * (i + 0.5) / _GRID, top + (bottom - top) * (j + 0.5) / _GRID)
            for j in range(_GRID)
            for i in range(_GRID)
        ]
        luma, cb, cr = (statistics.fmean(self._at(plane, x, y) for x, y in points) for plane in range(3))
        return yuv_to_rgb((luma, cb, cr), self.height, self._bt709)

    def _at(self, plane: int, x: float, y: float) -> int:
        half = 2 if plane else 1
        offset = (
            self._offset[plane]
            + int(y * self.height / half) * self._stride[plane]
            + int(x * self.width / half)
        )
        value: int = self._buffer.extract_dup(offset, 1)[0]
        return value


def _png(sample: Any) -> bytes:
    """An RGB sample as a PNG file (ISO/IEC 15948)."""
    info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
    buffer, stride = sample.get_buffer(), info.stride[0]
    data = buffer.extract_dup(0, buffer.get_size())
    rows = b"".join(b"\0" + data[y * stride : y * stride + info.width * 3] for y in range(info.height))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = info.width.to_bytes(4, "big") + info.height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 6))
        + chunk(b"IEND", b"")
    )
