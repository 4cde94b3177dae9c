"""Jingle and SDP."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.jitsi import jingle as j
from sipmediadeploy.gateway.conference.jitsi.jingle import BadJingle, Session, parse_jingle
from sipmediadeploy.gateway.conference.jitsi.jingle_sdp import (
    Accepting,
    Choices,
    sdp_offer,
    session_accept,
    session_terminate,
)
from sipmediadeploy.gateway.conference.jitsi.stanzas import BadStanza, parse_stanza, to_text
from sipmediadeploy.gateway.media.webrtc_sdp import parse_sdp
from tests.unit.jitsi.offers import ANSWER, FINGERPRINT, INITIATE, LEVEL, TCC, TRANSPORT

WHO = Accepting("me@example.org/r", "abcd1234")


def session(text: str = INITIATE) -> Session:
    return parse_jingle(parse_stanza(text), "room@muc.example.org/focus")


def test_a_session_is_read_with_all_that_is_needed() -> None:
    found = session()
    assert (found.action, found.sid, found.bridge_session) == ("session-initiate", "s1", "b1")
    assert found.initiator == "focus@auth.example.org/focus"
    audio, video = found.content("audio"), found.content("video")
    assert audio is not None
    assert video is not None
    assert audio.sources == (j.Source(77, "jvb-a0", "jvb"),)
    assert (5, TCC) in video.extensions
    h264 = video.codec("H264")
    assert h264 is not None
    assert h264.feedback == ("ccm fir", "nack", "nack pli", "transport-cc")
    rtx = video.repair_of(h264)
    assert rtx is not None
    assert rtx.number == 99
    transport = found.transport
    assert transport is not None
    assert transport.fingerprint == FINGERPRINT
    assert transport.web_sockets == ("wss://jvb.example.org/colibri-ws/jvb1/c1/e1?pwd=x",)
    assert transport.candidates[1].line() == (
        "candidate:2 1 udp 1694498815 203.0.113.9 10000 typ srflx raddr 198.51.100.7 rport 10000 generation 0"
    )


def test_the_offer_has_one_section_a_medium_with_the_codecs_that_are_used() -> None:
    offer = sdp_offer(session(), Choices())
    media = parse_sdp(offer).media
    assert [m.lines[0] for m in media] == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=video 9 UDP/TLS/RTP/SAVPF 107 100 99 96",
    ]
    assert "a=group:BUNDLE audio video" in offer
    video = media[1]
    assert video.attribute("fmtp", 107) == (
        "profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1"
    )
    assert video.attribute("fmtp", 99) == "apt=107"
    assert "a=rtcp-fb:107 nack pli" in video.lines
    assert f"a=extmap:1 {LEVEL}" in media[0].lines
    assert offer.count("a=candidate:") == 4  # no TCP
    assert offer.count("a=setup:active") == 2
    assert "transport" not in offer


def test_other_choices_make_other_offers() -> None:
    both = sdp_offer(session(), Choices(video_codecs=("H264", "VP8"), tcc=True))
    assert "m=video 9 UDP/TLS/RTP/SAVPF 107 100 99 96" in both
    assert f"a=extmap:5 {TCC}" in both
    assert "a=rtcp-fb:107 transport-cc" in both
    assert "SAVPF 107 100\r" in sdp_offer(session(), Choices(rtx=False))
    no_video = sdp_offer(session(), Choices(video_codecs=("AV1",)))
    assert "m=video" not in no_video
    assert "a=group:BUNDLE audio\r" in no_video


def test_a_data_channel_is_offered_when_it_is_there_and_wanted() -> None:
    sctp = "<sctpmap xmlns='urn:xmpp:jingle:transports:dtls-sctp:1' number='5000' protocol='x'/>"
    transport = TRANSPORT.replace("</transport>", sctp + "</transport>")
    content = f"<content name='data' creator='initiator'>{transport}</content></jingle>"
    text = INITIATE.replace("</jingle>", content)
    offer = sdp_offer(session(text), Choices())
    assert "m=application 9 UDP/DTLS/SCTP webrtc-datachannel" in offer
    assert "a=sctp-port:5000" in offer
    assert "m=application" not in sdp_offer(session(text), Choices(data=False))
    assert "m=application" not in sdp_offer(session(), Choices())


def test_the_answer_becomes_an_accept_that_the_focus_understands() -> None:
    accept = session_accept(session(), ANSWER, WHO)
    read = parse_jingle(parse_stanza(to_text(accept)), "me")
    assert (read.action, read.sid, read.initiator) == ("session-accept", "s1", "focus@auth.example.org/focus")
    assert accept.get("responder") == "me@example.org/r"
    audio, video = read.content("audio"), read.content("video")
    assert audio is not None
    assert video is not None
    assert audio.sources == (j.Source(1111, "abcd1234-a0"),)
    assert video.sources == (
        j.Source(2222, "abcd1234-v0", None, "camera"),
        j.Source(3333, "abcd1234-v0", None, "camera"),
    )
    assert [p.name for p in video.payload_types] == ["H264", "rtx"]
    assert video.payload_types[0].feedback == ("nack pli", "nack")
    for content in (audio, video):
        assert content.transport is not None
        assert (content.transport.ufrag, content.transport.setup) == ("me", "passive")
        assert [c.kind for c in content.transport.candidates] == ["host", "srflx"]
        assert content.transport.candidates[1].related == ("192.0.2.1", 40000)
    text = to_text(accept)
    assert 'semantics="FID"' in text
    assert text.count('name="msid" value="abcd1234-video-0 abcd1234-video-0"') == 2
    assert '<initial-last-n xmlns="jitsi:colibri2" value="1"/>' in text
    assert "sprop" not in text
    assert re.search(r'<group [^>]*semantics="BUNDLE"><content name="audio"/><content name="video"/>', text)


def test_nothing_is_announced_that_is_not_sent() -> None:
    answer = ANSWER.replace("a=sendrecv", "a=recvonly")
    read = parse_jingle(session_accept(session(), answer, WHO), "me")
    assert [c.sources for c in read.contents] == [(), ()]


def test_a_transport_replace_is_accepted_as_such() -> None:
    accept = session_accept(session(), ANSWER, Accepting("me", "abcd1234", last_n=None), "transport-accept")
    assert accept.get("action") == "transport-accept"
    assert "initial-last-n" not in to_text(accept)


def test_an_answer_without_credentials_is_no_accept() -> None:
    with pytest.raises(BadJingle, match="ICE"):
        session_accept(session(), "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", WHO)


def test_a_restart_is_asked_for_in_the_terminate() -> None:
    text = to_text(session_terminate("s1", "connectivity-error", bridge_session="b1", restart=True))
    assert '<bridge-session xmlns="http://jitsi.org/protocol/focus" id="b1" restart="true"/>' in text
    assert "bridge-session" not in to_text(session_terminate("s1", "decline"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("action='session-initiate'", ""),
        ("sid='s1'", ""),
        ("id='111'", "id='128'"),
        ("id='111'", "id='-1'"),
        ("id='111'", "id='１'"),
        ("id='111'", ""),
        ("clockrate='48000'", "clockrate='99999999999999999999'"),
        ("ssrc='77'", "ssrc='4294967296'"),
        ("port='10000'", "port='65536'"),
        ("ip='198.51.100.7'", "ip='198.51.100.7&#10;a=x'"),
        ("ufrag='ab12'", "ufrag='a b'"),
        ("name='audio'", "name='audio video'"),
        ("value='10'", "value='10&#13;&#10;a=setup:holdconn'"),
        (FINGERPRINT, "A1"),
        (f"uri='{LEVEL}'", "uri='a b'"),
        (
            "<payload-type id='126' name='telephone-event' clockrate='8000'/>",
            "<payload-type id='126' name='x' clockrate='1'/>" * 300,
        ),
    ],
)
def test_values_of_the_wrong_kind_are_refused(old: str, new: str) -> None:
    assert old in INITIATE
    with pytest.raises(BadJingle):
        session(INITIATE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("urn:xmpp:jingle:transports:ice-udp:1", "urn:example:other"),
        ("urn:xmpp:jingle:apps:dtls:0", "urn:example:other"),
        ("name='opus'", "name='other'"),
        ("urn:xmpp:jingle:apps:rtp:1", "urn:example:other"),
    ],
)
def test_an_offer_in_which_something_is_missing_is_refused(old: str, new: str) -> None:
    with pytest.raises(BadJingle):
        sdp_offer(session(INITIATE.replace(old, new)), Choices())


@given(st.integers(0, len(INITIATE)), st.integers(0, 60), st.text(max_size=20))
def test_no_damage_makes_the_parser_fail_otherwise(at: int, length: int, text: str) -> None:
    try:
        offer = sdp_offer(session(INITIATE[:at] + text + INITIATE[at + length :]), Choices())
    except (BadStanza, BadJingle):
        return
    for line in offer.split("\r\n")[:-1]:
        assert re.fullmatch(r"[a-z]=[ -~]*", line), line
