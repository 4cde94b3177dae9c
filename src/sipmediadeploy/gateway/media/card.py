"""The drawn picture that a terminal gets while nobody in the room sends video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_BACKGROUND, _TITLE, _TEXT = (0.11, 0.14, 0.20), (1.0, 1.0, 1.0), (0.72, 0.78, 0.88)
_MAX_LINES = 8
_MAX_TEXT = 80


@dataclass(frozen=True, slots=True)
class Card:
    """What is written on it."""

    title: str
    lines: tuple[str, ...] = ()


def shortened(card: Card) -> Card:
    """The card with as much as fits: eight lines, of which the last counts those left out."""
    lines = tuple(_clean(line) for line in card.lines)
    if len(lines) > _MAX_LINES:
        lines = (*lines[: _MAX_LINES - 1], f"+ {len(lines) - _MAX_LINES + 1}")
    return Card(_clean(card.title), lines)


def _clean(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def draw(card: Card, width: int, height: int) -> bytes:
    """The card as BGRx pixels, ``4 * width * height`` bytes, rows from the top."""
    import cairo  # only calls that show a card pay for it

    card = shortened(card)
    surface = cairo.ImageSurface(cairo.FORMAT_RGB24, width, height)
    context = cairo.Context(surface)
    context.set_source_rgb(*_BACKGROUND)
    context.paint()
    context.select_font_face("DejaVu Sans", cairo.FONT_SLANT_NORMAL, cairo.FONT_WEIGHT_BOLD)
    _write(context, card.title, width, height * 0.22, height * 0.095, _TITLE)
    context.select_font_face("DejaVu Sans", cairo.FONT_SLANT_NORMAL, cairo.FONT_WEIGHT_NORMAL)
    for index, line in enumerate(card.lines):
        _write(context, line, width, height * (0.36 + 0.075 * index), height * 0.05, _TEXT)
    surface.flush()
    stride = surface.get_stride()
    pixels = bytes(surface.get_data())
    if stride == 4 * width:
        return pixels
    return b"".join(pixels[row * stride : row * stride + 4 * width] for row in range(height))


def _write(context: Any, text: str, width: int, y: float, size: float, colour: tuple[float, ...]) -> None:
    """One line, centred, smaller when it would not fit."""
    context.set_source_rgb(*colour)
    context.set_font_size(size)
    extents = context.text_extents(text)
    if extents.x_advance > 0.92 * width:
        context.set_font_size(size * 0.92 * width / extents.x_advance)
        extents = context.text_extents(text)
    context.move_to((width - extents.x_advance) / 2, y)
    context.show_text(text)
