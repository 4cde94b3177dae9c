"""Telephone events (RFC 4733): a digit is many packets, and one digit."""

from __future__ import annotations

import pytest

from sipmediadeploy.gateway.media.dtmf import DigitDetector


def packets(event: int, timestamp: int, count: int = 5) -> list[tuple[int, bytes]]:
    return [(timestamp, bytes([event, 10, 0, n * 160 % 256])) for n in range(count)]


@pytest.mark.parametrize(
    ("sent", "digits"),
    [
        (packets(5, 100), "5"),
        (packets(5, 100) + packets(5, 900), "55"),
        (packets(10, 100) + packets(11, 200) + packets(15, 300), "*#D"),
        (packets(16, 100), ""),  # flash hook
        ([(100, b"\x05")], ""),  # cut off
        ([(0, bytes([1, 10, 0, 160]))], "1"),
    ],
)
def test_each_event_is_one_digit(sent: list[tuple[int, bytes]], digits: str) -> None:
    heard: list[str] = []
    detector = DigitDetector(heard.append)
    for timestamp, payload in sent:
        detector.packet(timestamp, payload)
    assert "".join(heard) == digits
