"""A 5 x 7 dot font, so that drawing a clock and a name needs no text rendering library in the image."""

from __future__ import annotations

GLYPH_WIDTH, GLYPH_HEIGHT = 5, 7

_ROWS = {
    " ": "00 00 00 00 00 00 00",
    "0": "0e 11 13 15 19 11 0e",
    "1": "04 0c 04 04 04 04 0e",
    "2": "0e 11 01 02 04 08 1f",
    "3": "1f 02 04 02 01 11 0e",
    "4": "02 06 0a 12 1f 02 02",
    "5": "1f 10 1e 01 01 11 0e",
    "6": "06 08 10 1e 11 11 0e",
    "7": "1f 01 02 04 08 08 08",
    "8": "0e 11 11 0e 11 11 0e",
    "9": "0e 11 11 0f 01 02 0c",
    "A": "0e 11 11 1f 11 11 11",
    "B": "1e 11 11 1e 11 11 1e",
    "C": "0e 11 10 10 10 11 0e",
    "D": "1c 12 11 11 11 12 1c",
    "E": "1f 10 10 1e 10 10 1f",
    "F": "1f 10 10 1e 10 10 10",
    "G": "0e 11 10 17 11 11 0f",
    "H": "11 11 11 1f 11 11 11",
    "I": "0e 04 04 04 04 04 0e",
    "J": "07 02 02 02 02 12 0c",
    "K": "11 12 14 18 14 12 11",
    "L": "10 10 10 10 10 10 1f",
    "M": "11 1b 15 15 11 11 11",
    "N": "11 11 19 15 13 11 11",
    "O": "0e 11 11 11 11 11 0e",
    "P": "1e 11 11 1e 10 10 10",
    "Q": "0e 11 11 11 15 12 0d",
    "R": "1e 11 11 1e 14 12 11",
    "S": "0f 10 10 0e 01 01 1e",
    "T": "1f 04 04 04 04 04 04",
    "U": "11 11 11 11 11 11 0e",
    "V": "11 11 11 11 11 0a 04",
    "W": "11 11 11 15 15 15 0a",
    "X": "11 11 0a 04 0a 11 11",
    "Y": "11 11 0a 04 04 04 04",
    "Z": "1f 01 02 04 08 10 1f",
    ":": "00 04 04 00 04 04 00",
    ".": "00 00 00 00 00 0c 0c",
    ",": "00 00 00 00 0c 04 08",
    "-": "00 00 00 1f 00 00 00",
    "_": "00 00 00 00 00 00 1f",
    "@": "0e 11 17 15 17 10 0e",
    "/": "00 01 02 04 08 10 00",
    "(": "02 04 08 08 08 04 02",
    ")": "08 04 02 02 02 04 08",
    "+": "00 04 04 1f 04 04 00",
    "'": "04 04 00 00 00 00 00",
    "!": "04 04 04 04 04 00 04",
    "?": "0e 11 01 02 04 00 04",
}
_GLYPHS = {char: bytes.fromhex(rows.replace(" ", "")) for char, rows in _ROWS.items()}


def text_rows(text: str, scale: int, ink: int, paper: int) -> list[bytes]:
    """``text`` as rows of luma bytes, each dot ``scale`` pixels wide and high, one dot between characters.

    Letters come out in capitals; a character without a glyph as "?".
    """
    glyphs = [_GLYPHS.get(char, _GLYPHS["?"]) for char in text.upper()]
    on, off = bytes([ink]) * scale, bytes([paper]) * scale
    rows = []
    for y in range(GLYPH_HEIGHT):
        dots = [glyph[y] << 1 >> (GLYPH_WIDTH - x) & 1 for glyph in glyphs for x in range(GLYPH_WIDTH + 1)]
        row = b"".join(on if dot else off for dot in dots)
        rows.extend([row] * scale)
    return rows
