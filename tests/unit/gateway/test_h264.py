"""Which picture fits which H.264 level (Rec. ITU-T H.264, table A-1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.sip.h264 import PictureSize, largest_picture


@pytest.mark.parametrize(
    ("level", "size"),
    [
        (31, PictureSize(1280, 720, 30)),
        (40, PictureSize(1280, 720, 30)),
        (30, PictureSize(640, 360, 30)),
        (22, PictureSize(640, 360, 22)),
        (21, PictureSize(512, 288, 30)),
        (13, PictureSize(320, 180, 30)),
        (11, PictureSize(320, 180, 12)),
        (10, PictureSize(192, 108, 17)),
        (10.5, PictureSize(192, 108, 17)),
    ],
)
def test_the_largest_picture_of_a_level(level: float, size: PictureSize) -> None:
    assert largest_picture(level) == size


@given(st.floats(0, 255))
def test_every_level_has_a_picture(level: float) -> None:
    size = largest_picture(level)
    assert size.width * 9 == size.height * 16
    assert 10 <= size.fps <= 30
