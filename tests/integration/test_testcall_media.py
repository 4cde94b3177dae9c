"""The test terminal's media where the network brings it what was not meant for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from sipmediadeploy.gateway.media.api import AudioStream, SipMedia
from sipmediadeploy.gateway.testcall.media import Media, Ports
from sipmediadeploy.gateway.testcall.options import parse_options
from sipmediadeploy.gateway.testcall.sound import SOUND_FLOOR_DB

PCMA = 8
LOUD = bytes([0x2A, 0xAA] * 80)
"""20 ms of A-law at full scale."""


@pytest.fixture
def terminal() -> Iterator[tuple[Media, int]]:
    """Its media, and the port where it takes sound."""
    ports = Ports.bind("127.0.0.1")
    media = Media(parse_options(["room", "--to", "127.0.0.1", "--audio-only"]), None, ports, None)
    try:
        media.start(SipMedia("127.0.0.1", AudioStream("PCMA", PCMA, ports.port, "127.0.0.1", 9), None))
        yield media, ports.port
    finally:
        media.stop()


async def test_rtp_of_a_call_before_on_the_same_port_does_not_end_this_one(
    terminal: tuple[Media, int],
) -> None:
    media, port = terminal
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        for number in range(200):
            for ssrc in (1, 2):  # the one that was there first goes on beside the other
                header = struct.pack("!BBHII", 0x80, PCMA, number, 160 * number, ssrc)
                sender.sendto(header + LOUD, ("127.0.0.1", port))
            await asyncio.sleep(0.02)  # as sound does
    second = media.second(4)  # raises when the pipeline has ended
    assert second.heard.level_db > SOUND_FLOOR_DB
    assert second.audio_in.packets == 400
