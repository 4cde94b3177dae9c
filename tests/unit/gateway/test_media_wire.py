"""The worker protocol carries values unchanged, whatever the socket's chunks."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.media import wire
from sipmediadeploy.gateway.media.api import (
    AudioStream,
    IceServers,
    MediaStats,
    SipMedia,
    StreamStats,
    VideoStream,
)

AUDIO = AudioStream("opus", 107, 20000, "192.0.2.1", 4000, "recvonly", 20, 101)
VIDEO = VideoStream(97, 20002, "192.0.2.1", 4002, "sendonly", "42801f", pli=True, kbps=900)


@pytest.mark.parametrize(
    "media",
    [SipMedia("0.0.0.0", AUDIO, VIDEO), SipMedia("0.0.0.0", AUDIO, None), SipMedia("0.0.0.0", None, VIDEO)],
)
def test_the_sip_side_arrives_as_it_was_sent(media: SipMedia) -> None:
    sent = wire.parse(wire.line(wire.sip_media_to_wire(media)))
    assert wire.sip_media_from_wire(sent) == media


def test_ice_servers_and_statistics_arrive_as_they_were_sent() -> None:
    ice = IceServers(("turn://u:p@192.0.2.9:3478?transport=udp",), relay_only=True)
    stats = MediaStats(audio_in=StreamStats(1, 2, 3, 4.5))
    assert wire.ice_from_wire(wire.parse(wire.line(asdict(ice)))) == ice
    assert wire.stats_from_wire(wire.parse(wire.line(asdict(stats)))) == stats


@given(
    st.lists(st.dictionaries(st.text(), st.text() | st.integers())), st.lists(st.integers(0, 50), max_size=20)
)
def test_messages_survive_any_cutting(messages: list[wire.Message], cuts: list[int]) -> None:
    data, splitter, lines = b"".join(map(wire.line, messages)), wire.LineSplitter(), []
    for cut in cuts:
        lines += splitter.feed(data[:cut])
        data = data[cut:]
    lines += splitter.feed(data)
    assert [wire.parse(line) for line in lines] == messages


def test_an_endless_line_is_an_error() -> None:
    splitter = wire.LineSplitter()
    with pytest.raises(ValueError, match="too long"):
        splitter.feed(b"x" * (wire.LINE_LIMIT + 1))


@pytest.mark.parametrize("text", [b"[]", b"7", b"{", b""])
def test_what_is_no_message_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        wire.parse(text)
