"""H.264 profile-level-id: which profile it is and how levels compare (RFC 6184, sections 8.1 and 8.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Profile = Literal["constrained-baseline", "baseline", "other"]

DEFAULT = "42000a"
"""What an absent profile-level-id means: baseline, level 1 (RFC 6184, section 8.1)."""

OWN_LEVEL = 31
"""Level 3.1, 1280x720 at 30 frames a second: what browsers send and take everywhere."""


@dataclass(frozen=True, slots=True)
class ProfileLevel:
    """A profile-level-id, taken apart."""

    profile_idc: int
    profile_iop: int
    level_idc: int

    @property
    def profile(self) -> Profile:
        """The profile as RFC 6184, table 5 has it (the two that a gateway passes through)."""
        idc, iop = self.profile_idc, self.profile_iop
        if (
            (idc == 0x42 and iop & 0x4F == 0x40)
            or (idc == 0x4D and iop & 0x8F == 0x80)
            or (idc == 0x58 and iop & 0xCF == 0xC0)
        ):
            return "constrained-baseline"
        if (idc == 0x42 and iop & 0x4F == 0x00) or (idc == 0x58 and iop & 0xCF == 0x80):
            return "baseline"
        return "other"

    @property
    def level(self) -> float:
        """The level times ten; level 1b (9, or 11 with constraint_set3_flag) lies between 10 and 11."""
        if self.level_idc == 9 or (self.level_idc == 11 and self.profile_iop & 0x10):
            return 10.5
        return float(self.level_idc)

    def lowered_to(self, level: int) -> ProfileLevel:
        """The same profile at no higher a level than ``level`` (times ten)."""
        if self.level <= level:
            return self
        return ProfileLevel(self.profile_idc, self.profile_iop & 0xEF, level)

    def with_level(self, level: int) -> ProfileLevel:
        """The same profile at ``level`` (times ten)."""
        return ProfileLevel(self.profile_idc, self.profile_iop & 0xEF, level)

    def __str__(self) -> str:
        return f"{self.profile_idc:02x}{self.profile_iop:02x}{self.level_idc:02x}"


def parse_profile_level(text: str) -> ProfileLevel | None:
    """Six hexadecimal digits, or None when it is something else."""
    if len(text) != 6 or not all(c in "0123456789abcdefABCDEF" for c in text):
        return None
    value = int(text, 16)
    return ProfileLevel(value >> 16, (value >> 8) & 0xFF, value & 0xFF)


@dataclass(frozen=True, slots=True)
class PictureSize:
    """Width and height in pixels and frames a second."""

    width: int
    height: int
    fps: int


_LIMITS = {10: (99, 1485), 10.5: (99, 1485), 11: (396, 3000), 12: (396, 6000), 13: (396, 11880)}
_LIMITS |= {20: (396, 11880), 21: (792, 19800), 22: (1620, 20250), 30: (1620, 40500), 31: (3600, 108000)}
_SIZES = ((1280, 720), (640, 360), (512, 288), (320, 180), (192, 108))
_MAX_FPS = 30


def largest_picture(level: float) -> PictureSize:
    """The largest 16:9 picture, at up to 30 frames a second, that a decoder of ``level`` (times ten) takes.

    Source: Rec. ITU-T H.264, table A-1 (MaxFS in macroblocks, MaxMBPS in macroblocks a second).
    """
    frame, rate = _LIMITS[max((known for known in _LIMITS if known <= level), default=10)]
    for width, height in _SIZES:
        blocks = -(-width // 16) * -(-height // 16)
        if blocks <= frame and rate // blocks >= 10:
            return PictureSize(width, height, min(_MAX_FPS, rate // blocks))
    raise AssertionError("the smallest picture fits every level")
