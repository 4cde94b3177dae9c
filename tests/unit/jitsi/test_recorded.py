"""Stanzas that a jicofo and a bridge of August 2026 sent, recorded in a test room: all are understood."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.jitsi import jingle, stanzas
from sipmediadeploy.gateway.conference.jitsi.jingle import Session, parse_jingle
from sipmediadeploy.gateway.conference.jitsi.jingle_sdp import Choices, sdp_offer
from sipmediadeploy.gateway.conference.jitsi.muc import Self
from sipmediadeploy.gateway.conference.jitsi.room import Room
from sipmediadeploy.gateway.conference.jitsi.stanzas import parse_stanza, to_text

RECORDED = [
    parse_stanza(line) for line in (Path(__file__).parent / "recorded/stanzas.txt").read_text().splitlines()
]
ME = Self("rec@conference.meet.test", "d9ddb5da", "Ann")


def named(name: str) -> list[Element]:
    return [one for one in RECORDED if stanzas.local_name(one) == name]


def session() -> Session:
    (initiate,) = [x for one in named("iq") if (x := one.find(f"{{{jingle.JINGLE}}}jingle")) is not None]
    return parse_jingle(initiate, "rec@conference.meet.test/focus")


def test_presence_tells_who_is_there_and_who_the_focus_is() -> None:
    room = Room(ME)
    room.focus_jid = "focus@auth.meet.test"
    assert all(room.hear(one) for one in named("presence"))
    assert room.inside
    assert room.others() == ("Bob",)
    assert room.members["013afe4e"].codecs == ("h264", "vp8")
    assert [s.name for s in room.members["013afe4e"].sources] == ["013afe4e-a0", "013afe4e-v0"]
    assert room.is_focus("rec@conference.meet.test/focus")
    assert not room.is_focus("rec@conference.meet.test/013afe4e")
    assert (room.over, room.lost, room.refused) == (None, None, None)


def test_the_session_has_what_a_call_needs() -> None:
    found = session()
    assert (found.action, found.initiator) == ("session-initiate", "focus@auth.meet.test/focus")
    assert found.sctp_port is None
    transport = found.transport
    assert transport is not None
    assert transport.web_sockets[0].startswith("wss://198.18.240.1:18443/colibri-ws/jvb1/")
    assert [(c.address, c.port, c.kind) for c in transport.candidates] == [("198.18.240.1", 18100, "host")]
    video = found.content("video")
    assert video is not None
    assert [p.name for p in video.payload_types[:4]] == ["AV1", "VP8", "H264", "VP9"]


def test_its_offer_has_the_codecs_that_are_shown_and_their_retransmission() -> None:
    offer = sdp_offer(session(), Choices())
    assert "m=video 9 UDP/TLS/RTP/SAVPF 107 100 99 96\r\n" in offer
    assert "a=fmtp:107 profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1\r\n" in offer
    assert "AV1" not in offer
    assert "m=application" not in offer


def test_what_was_read_can_be_written_and_read_again() -> None:
    for one in RECORDED:
        again = parse_stanza(to_text(one))
        assert to_text(again) == to_text(one)
