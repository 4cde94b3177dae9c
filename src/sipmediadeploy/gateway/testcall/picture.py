"""The generated picture, and reading such a picture back. Pure: I420 planes as bytes.

From top to bottom: the display name; on the left a *code area* of one solid colour, on the right colour bars
with a running clock and a moving block; along the bottom a *time strip* of 16 black or white fields, which
says when the frame was drawn: 12 bits of milliseconds within :data:`LOOP_MS`, then 4 check bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sipmediadeploy.gateway.testcall.font import GLYPH_HEIGHT, GLYPH_WIDTH, text_rows

LOOP_MS = 4000
"""The time strip starts anew after this long: a clip of this length loops without the strip jumping."""
STRIP_FIELDS = 16
CODE_AREA = (0.08, 0.30, 0.42, 0.70)
"""Inner part (left, top, right, bottom as shares of the picture) of the solid-colour area."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
_CHECK = 0b1010
_BLACK, _WHITE = 16, 235
_BARS = ("c0c0c0", "c0c000", "00c0c0", "00c000", "c000c0", "c00000", "0000c0", "101010")

Colour = tuple[int, int, int]
Area = tuple[float, float, float, float]


def parse_colour(text: str) -> Colour:
    """``RRGGBB`` as (red, green, blue). Raises ValueError for anything else."""
    if len(text) != 6:
        raise ValueError(f"{text!r} is not a colour: give six hexadecimal digits such as 1e90ff")
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a colour: give six hexadecimal digits such as 1e90ff") from None
    return red, green, blue


def colour_text(colour: Colour) -> str:
    return bytes(colour).hex()


def _weights(height: int) -> tuple[float, float]:
    """(kr, kb) of BT.601 for standard definition, BT.709 from 720 lines up, as decoders assume."""
    return (0.2126, 0.0722) if height >= 720 else (0.299, 0.114)


def _clamp(value: float) -> int:
    return max(0, min(255, round(value)))


def rgb_to_yuv(colour: Colour, height: int) -> Colour:
    """Limited-range Y, Cb, Cr of a colour in a picture of this height."""
    kr, kb = _weights(height)
    red, green, blue = (channel / 255 for channel in colour)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    return (
        _clamp(16 + 219 * luma),
        _clamp(128 + 112 * (blue - luma) / (1 - kb)),
        _clamp(128 + 112 * (red - luma) / (1 - kr)),
    )


def yuv_to_rgb(yuv: tuple[float, float, float], height: int, bt709: bool | None = None) -> Colour:
    """The reverse of :func:`rgb_to_yuv`; ``bt709`` overrides what the height suggests."""
    kr, kb = _weights(height if bt709 is None else 720 if bt709 else 0)
    luma = (yuv[0] - 16) / 219
    blue = luma + (yuv[1] - 128) / 112 * (1 - kb)
    red = luma + (yuv[2] - 128) / 112 * (1 - kr)
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return _clamp(red * 255), _clamp(green * 255), _clamp(blue * 255)


def strip_word(milliseconds: int) -> int:
    """The 16 bits of the time strip."""
    value = milliseconds % LOOP_MS
    return value << 4 | (value >> 8 ^ value >> 4 & 15 ^ value & 15 ^ _CHECK)


def read_strip(luma: Callable[[float, float], float]) -> int | None:
    """Milliseconds within :data:`LOOP_MS` from a picture, or None when there is no valid strip in it.

    ``luma(x, y)`` gives the luma at a point, both as shares of the picture.
    """
    word = 0
    for field in range(STRIP_FIELDS):
        value = luma((field + 0.5) / STRIP_FIELDS, 15 / 16)
        if 90 < value < 160:
            return None
        word = word << 1 | (value >= 160)
    milliseconds = word >> 4
    return milliseconds if milliseconds < LOOP_MS and strip_word(milliseconds) == word else None


def age_ms(strip: int, now_ms: int) -> int:
    """How long ago a frame with this strip was drawn, by the same clock; between -500 and 3499."""
    return (now_ms - strip + 500) % LOOP_MS - 500


@dataclass(frozen=True, slots=True)
class _Box:
    """An even-numbered rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int


class Painter:
    """Draws frames of one size: everything that stands still once, then only what moves."""

    def __init__(self, width: int, height: int, name: str, colour: Colour) -> None:
        """``width`` and ``height`` are even, at least 160 x 96."""
        self.width, self.height = width, height
        self._frame = bytearray(self.size)
        top, bottom, middle = height // 16 * 2, height // 16 * 14, width // 4 * 2
        self._fill(_Box(0, 0, width, height), (_BLACK, 128, 128))
        self._fill(_Box(0, top, middle, bottom - top), rgb_to_yuv(colour, height))
        bar = (width - middle) // len(_BARS) // 2 * 2
        for index, text in enumerate(_BARS):
            left = middle + index * bar
            right = width if index == len(_BARS) - 1 else left + bar
            self._fill(_Box(left, top, right - left, bottom - top), rgb_to_yuv(parse_colour(text), height))
        scale = max(1, top // (GLYPH_HEIGHT + 3))
        room = (width // scale - 4) // (GLYPH_WIDTH + 1)
        self._text(name[:room], 2 * scale, 2 * scale, scale)
        self._clock_scale = max(1, (width - middle) * 3 // 4 // (12 * (GLYPH_WIDTH + 1)))
        self._clock_at = (
            middle + (width - middle - 12 * 6 * self._clock_scale) // 4 * 2,
            top + (bottom - top) // 4,
        )
        clock = _Box(
            *(v // 2 * 2 for v in (*self._clock_at, 12 * 6 * self._clock_scale, 8 * self._clock_scale))
        )
        self._fill(clock, (_BLACK, 128, 128))
        self._track = _Box(middle, top + (bottom - top) * 5 // 8, width - middle, (bottom - top) // 8)
        self._fill(self._track, (_BLACK, 128, 128))
        self._still = [bytes(self._row(y)) for y in range(self._track.y, self._track.y + self._track.height)]

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * 3 // 2

    def frame(self, clock: str, strip_ms: int) -> bytes:
        """One I420 frame (rows without padding); ``clock`` is at most 12 characters: ``12:34:56.789``."""
        self._text(clock[:12], *self._clock_at, self._clock_scale)
        self._move_block(strip_ms)
        self._strip(strip_ms)
        return bytes(self._frame)

    def _row(self, y: int) -> memoryview:
        return memoryview(self._frame)[y * self.width : (y + 1) * self.width]

    def _fill(self, box: _Box, yuv: Colour) -> None:
        luma = bytes([yuv[0]]) * box.width
        for y in range(box.y, box.y + box.height):
            self._row(y)[box.x : box.x + box.width] = luma
        half = self.width // 2
        for plane, value in ((0, yuv[1]), (1, yuv[2])):
            start = self.width * self.height + plane * half * (self.height // 2)
            chroma = bytes([value]) * (box.width // 2)
            for y in range(box.y // 2, (box.y + box.height) // 2):
                at = start + y * half + box.x // 2
                self._frame[at : at + len(chroma)] = chroma

    def _text(self, text: str, x: int, y: int, scale: int) -> None:
        for offset, row in enumerate(text_rows(text, scale, _WHITE, _BLACK)):
            self._row(y + offset)[x : x + len(row)] = row

    def _move_block(self, strip_ms: int) -> None:
        track = self._track
        block = bytes([_WHITE]) * (track.width // 8)
        x = track.x + (track.width - len(block)) * (strip_ms % 2000) // 2000
        for offset, still in enumerate(self._still):
            row = self._row(track.y + offset)
            row[track.x :] = still[track.x :]
            row[x : x + len(block)] = block

    def _strip(self, strip_ms: int) -> None:
        word = strip_word(strip_ms)
        row = b"".join(
            bytes([_WHITE if word >> (STRIP_FIELDS - 1 - field) & 1 else _BLACK])
            * ((field + 1) * self.width // STRIP_FIELDS - field * self.width // STRIP_FIELDS)
            for field in range(STRIP_FIELDS)
        )
        for y in range(self.height // 16 * 14, self.height):
            self._row(y)[:] = row
