"""The generated picture says what it was told to say, and can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.testcall import picture


def point(frame: bytes, width: int, height: int, x: float, y: float) -> tuple[int, int, int]:
    row, column = int(y * height), int(x * width)
    chroma = row // 2 * (width // 2) + column // 2
    return (
        frame[row * width + column],
        frame[width * height + chroma],
        frame[width * height * 5 // 4 + chroma],
    )


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (352, 288), (160, 96), (854, 480), (1920, 1080)])
def test_a_picture_of_any_size_tells_its_time_and_colour(size: tuple[int, int]) -> None:
    width, height = size
    frame = picture.Painter(width, height, "Test terminal", (200, 30, 60)).frame("12:34:56.789", 3210)
    left, top, right, bottom = picture.CODE_AREA

    assert len(frame) == width * height * 3 // 2
    assert picture.read_strip(lambda x, y: point(frame, width, height, x, y)[0]) == 3210
    for x, y in ((left, top), (right, bottom), (left, bottom), (right, top)):
        shown = picture.yuv_to_rgb(point(frame, width, height, x, y), height)
        assert shown == pytest.approx((200, 30, 60), abs=4)


@pytest.mark.parametrize("name", ["", "ÄÖ ☎ 東京", "x" * 500])
def test_any_display_name_can_be_drawn(name: str) -> None:
    painter = picture.Painter(320, 180, name, (0, 0, 0))
    assert len(painter.frame("12:34:56.789", 0)) == painter.size


@given(st.integers(0, 2**41))
def test_every_time_survives_the_strip(now: int) -> None:
    word = picture.strip_word(now)
    luma = [235 if word >> (15 - field) & 1 else 16 for field in range(16)]
    assert picture.read_strip(lambda x, _y: luma[int(x * 16)]) == now % picture.LOOP_MS


@pytest.mark.parametrize("luma", [16, 235, 128])
def test_a_plain_picture_has_no_time(luma: int) -> None:
    assert picture.read_strip(lambda _x, _y: luma) is None


@given(st.integers(0, 2**41), st.integers(-499, 3499))
def test_age_is_what_passed_since_the_frame_was_drawn(drawn: int, passed: int) -> None:
    assert picture.age_ms(drawn % picture.LOOP_MS, drawn + passed) == passed


@given(st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from([360, 720]))
def test_colours_survive_the_conversion(colour: tuple[int, int, int], height: int) -> None:
    back = picture.yuv_to_rgb(picture.rgb_to_yuv(colour, height), height)
    assert back == pytest.approx(colour, abs=4)


@pytest.mark.parametrize("text", ["", "12345", "zzzzzz", "1234567", "#12345"])
def test_what_is_not_a_colour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="six hexadecimal digits"):
        picture.parse_colour(text)
