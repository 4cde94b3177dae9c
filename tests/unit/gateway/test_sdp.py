"""Offer and answer, as terminals see them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipmediadeploy.gateway.sip.sdp import LocalMedia, SdpError, answer_offer, make_offer, read_answer
from tests.unit.gateway.offers import BARESIP, DESK_PHONE, LINPHONE, ROOM_CODEC, sdp

LOCAL = LocalMedia(address="192.0.2.5", bind_address="10.1.0.5", audio_port=40000, video_port=40002)


def m_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("m=")]


def video_offer(fmtp: str, *extra: str) -> str:
    return sdp(
        "v=0", "o=- 1 1 IN IP4 10.0.0.1", "s=-", "c=IN IP4 10.0.0.1", "t=0 0",
        "m=video 9000 RTP/AVP 99", "a=rtpmap:99 H264/90000", f"a=fmtp:99 {fmtp}", *extra,
    )  # fmt: skip


def audio_offer(*extra: str, connection: str = "IN IP4 10.0.0.1", line: str = "RTP/AVP 8") -> str:
    return sdp(
        "v=0", "o=- 1 1 IN IP4 10.0.0.1", "s=-", f"c={connection}", "t=0 0", f"m=audio 9000 {line}", *extra
    )  # fmt: skip


def test_baresip_gets_its_opus_and_its_packetization_mode_1_video_back() -> None:
    answer, media = answer_offer(BARESIP, LOCAL)
    assert m_lines(answer) == ["m=audio 40000 RTP/AVP 96 101", "m=video 40002 RTP/AVP 98"]
    assert media.audio is not None
    assert media.video is not None
    assert (media.audio.codec, media.audio.payload_type, media.audio.dtmf_payload_type) == ("opus", 96, 101)
    assert (media.audio.remote_address, media.audio.remote_port) == ("192.168.1.20", 14222)
    assert (media.video.payload_type, media.video.profile_level_id) == (98, "42e01f")
    assert (media.video.pli, media.video.fir, media.video.kbps) == (True, True, 512)
    assert "a=rtcp-fb:98 nack pli" in answer
    assert media.bind_address == "10.1.0.5"
    assert "c=IN IP4 192.0.2.5" in answer


def test_linphone_keeps_avpf_and_gets_h264_though_it_prefers_vp8() -> None:
    answer, media = answer_offer(LINPHONE, LOCAL)
    assert m_lines(answer) == ["m=audio 40000 RTP/AVPF 96 101", "m=video 40002 RTP/AVPF 97"]
    assert media.audio is not None
    assert media.audio.dtmf_payload_type == 101
    assert "a=rtpmap:101 telephone-event/48000" in answer
    assert "BUNDLE" not in answer


def test_a_room_codec_gets_main_video_and_refused_slides_bfcp_and_camera_control_in_order() -> None:
    answer, media = answer_offer(ROOM_CODEC, LOCAL)
    assert m_lines(answer) == [
        "m=audio 40000 RTP/AVP 108 101",
        "m=video 40002 RTP/AVP 126",
        "m=application 0 UDP/BFCP *",
        "m=video 0 RTP/AVP 99 97",
        "m=application 0 RTP/AVP 100",
    ]
    assert media.video is not None
    assert media.video.profile_level_id == "428016"
    assert media.video.kbps == 1500


def test_a_desk_phone_gets_its_static_payload_type_at_a_packet_time_we_can_send() -> None:
    answer, media = answer_offer(DESK_PHONE, LOCAL)
    assert m_lines(answer) == ["m=audio 40000 RTP/AVP 8"]
    assert media.audio is not None
    assert media.audio.ptime_ms == 20
    assert media.video is None


@pytest.mark.parametrize(
    ("fmtp", "accepted", "answered"),
    [
        (
            "profile-level-id=42e01f;packetization-mode=1",
            True,
            "profile-level-id=42e01f;packetization-mode=1",
        ),
        ("packetization-mode=1", True, "profile-level-id=42000a;packetization-mode=1"),
        (
            "profile-level-id=42e028;packetization-mode=1",
            True,
            "profile-level-id=42e01f;packetization-mode=1",
        ),
        (
            "profile-level-id=42e00d;packetization-mode=1;level-asymmetry-allowed=1",
            True,
            "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
        ),
        (
            "profile-level-id=4d801f;packetization-mode=1",
            True,
            "profile-level-id=4d801f;packetization-mode=1",
        ),
        (
            "PROFILE-LEVEL-ID=42E01F; Packetization-Mode=1",
            True,
            "profile-level-id=42e01f;packetization-mode=1",
        ),
        (
            "profile-level-id=42f00b;packetization-mode=1",
            True,
            "profile-level-id=42f00b;packetization-mode=1",
        ),
        ("profile-level-id=640028;packetization-mode=1", False, ""),
        ("profile-level-id=42e01f;packetization-mode=0", False, ""),
        ("profile-level-id=42e01f", False, ""),
        ("profile-level-id=zzz;packetization-mode=1", False, ""),
        ("profile-level-id=42e0１f;packetization-mode=1", False, ""),
    ],
)
def test_h264_is_taken_when_it_can_be_passed_through(fmtp: str, accepted: bool, answered: str) -> None:
    if not accepted:
        with pytest.raises(SdpError) as refused:
            answer_offer(video_offer(fmtp), LOCAL)
        assert refused.value.status == 488
        return
    answer, _ = answer_offer(video_offer(fmtp), LOCAL)
    assert f"a=fmtp:99 {answered}" in answer.splitlines()


def test_with_level_asymmetry_what_is_sent_keeps_to_the_terminals_level() -> None:
    fmtp = "profile-level-id=42e00d;packetization-mode=1;level-asymmetry-allowed=1"
    _, media = answer_offer(video_offer(fmtp), LOCAL)
    assert media.video is not None
    assert media.video.profile_level_id == "42e00d"


@pytest.mark.parametrize("feedback", ["nack pli", "ccm fir"])
def test_feedback_is_answered_only_where_it_was_offered(feedback: str) -> None:
    fmtp = "profile-level-id=42e01f;packetization-mode=1"
    with_it, media = answer_offer(video_offer(fmtp, f"a=rtcp-fb:99 {feedback}"), LOCAL)
    assert f"a=rtcp-fb:99 {feedback}" in with_it
    assert with_it.count("rtcp-fb") == 1
    assert media.video is not None
    assert (media.video.pli, media.video.fir) == (feedback == "nack pli", feedback == "ccm fir")
    without, _ = answer_offer(video_offer(fmtp, f"a=rtcp-fb:98 {feedback}"), LOCAL)
    assert "rtcp-fb" not in without


@pytest.mark.parametrize(
    ("extra", "connection", "ours"),
    [
        ((), "IN IP4 10.0.0.1", "sendrecv"),
        (("a=sendonly",), "IN IP4 10.0.0.1", "recvonly"),
        (("a=recvonly",), "IN IP4 10.0.0.1", "sendonly"),
        (("a=inactive",), "IN IP4 10.0.0.1", "inactive"),
        ((), "IN IP4 0.0.0.0", "recvonly"),
        (("a=recvonly",), "IN IP4 0.0.0.0", "inactive"),
        (("c=IN IP4 10.0.0.2", "a=sendrecv"), "IN IP4 0.0.0.0", "sendrecv"),
    ],
)
def test_hold_in_every_dialect_mirrors_the_direction(
    extra: tuple[str, ...], connection: str, ours: str
) -> None:
    answer, media = answer_offer(audio_offer(*extra, connection=connection), LOCAL)
    assert media.audio is not None
    assert media.audio.direction == ours
    assert f"a={ours}" in answer.splitlines()


@pytest.mark.parametrize(
    "line", ["RTP/SAVP 8", "UDP/TLS/RTP/SAVPF 8", "TCP 8", "RTP/AVP 18", "udptl t38", "RTP/AVP"]
)
def test_what_cannot_be_done_is_488(line: str) -> None:
    with pytest.raises(SdpError) as refused:
        answer_offer(audio_offer(line=line), LOCAL)
    assert refused.value.status == 488


@pytest.mark.parametrize(
    "connection", ["IN IP6 2001:db8::1", "IN IP4 239.1.2.3", "IN IP4 255.255.255.255", "IN"]
)
def test_media_is_never_sent_where_no_terminal_is(connection: str) -> None:
    with pytest.raises(SdpError):
        answer_offer(audio_offer(connection=connection), LOCAL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "v=1\r\n",
        "v=0\r\nm=audio\r\n",
        "v=0\r\nm=audio 70000 RTP/AVP 0\r\n",
        "v=0\r\nm=audio ² RTP/AVP 0\r\n",
        "v=0\r\nm=audio 9 RTP/AVP 200\r\n",
        "v=0\r\nb=AS:x\r\n",
        "v=0\r\nm=audio 9 RTP/AVP 99\r\na=rtpmap:99 opus/x\r\n",
        "v=0\r\n" + "m=audio 9 RTP/AVP 0\r\n" * 33,
        "v=0\r\n" + "a=x\r\n" * 20000,
        "v=0\r\nm=audio " + "9" * 5000 + " RTP/AVP 0\r\n",
    ],
)
def test_what_is_not_sdp_is_400(text: str) -> None:
    with pytest.raises(SdpError) as refused:
        answer_offer(text, LOCAL)
    assert refused.value.status == 400


def test_without_a_video_port_video_is_refused_and_audio_goes_on() -> None:
    answer, media = answer_offer(BARESIP, replace(LOCAL, video_port=None))
    assert m_lines(answer)[1] == "m=video 0 RTP/AVP 97 98"
    assert media.video is None


def test_our_own_offer_is_answered_with_everything_in_it() -> None:
    other = replace(LOCAL, address="192.0.2.6", audio_port=50000, video_port=50002)
    answer, theirs = answer_offer(make_offer(LOCAL), other)
    ours = read_answer(answer, LOCAL)
    assert ours.audio is not None
    assert ours.video is not None
    assert theirs.audio is not None
    assert (ours.audio.codec, ours.audio.remote_address, ours.audio.remote_port) == (
        "opus",
        "192.0.2.6",
        50000,
    )
    assert ours.audio.payload_type == theirs.audio.payload_type
    assert ours.audio.dtmf_payload_type == 101
    assert (ours.video.remote_port, ours.video.pli, ours.video.fir) == (50002, True, True)
    assert ours.video.profile_level_id == "42e01f"


def test_a_later_offer_keeps_the_places_and_payload_types_of_the_session() -> None:
    first, _ = answer_offer(ROOM_CODEC, LOCAL)
    again = make_offer(replace(LOCAL, version=2), first)
    kept = m_lines(again)
    assert kept[0].startswith("m=audio 40000 RTP/AVP 108 ")
    assert kept[1] == "m=video 40002 RTP/AVP 126"
    assert [line.split()[1] for line in kept] == ["40000", "40002", "0", "0", "0"]
    assert "o=- 1 2 IN IP4 192.0.2.5" in again


@pytest.mark.parametrize(
    "answer", [DESK_PHONE, "v=0\r\n", "v=0\r\nm=video 9 RTP/AVP 0\r\nm=audio 9 RTP/AVP 0\r\n"]
)
def test_an_answer_that_does_not_fit_the_offer_is_refused(answer: str) -> None:
    with pytest.raises(SdpError) as refused:
        read_answer(answer, LOCAL)
    assert refused.value.status == 400


LINES = st.sampled_from([*BARESIP.splitlines(), *ROOM_CODEC.splitlines(), *LINPHONE.splitlines()])
MANGLED = st.lists(
    st.one_of(
        LINES,
        st.tuples(LINES, st.text(max_size=8), st.integers(0, 40)).map(
            lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :]
        ),
        st.text(max_size=30),
    ),
    max_size=40,
).map("\r\n".join)


@given(st.one_of(MANGLED, MANGLED.map(lambda t: "v=0\r\n" + t), st.text()))
@settings(max_examples=400, deadline=None)
def test_hostile_descriptions_give_an_answer_or_a_named_error(text: str) -> None:
    try:
        answer, media = answer_offer(text, LOCAL)
    except SdpError as error:
        if error.status not in (400, 488):
            raise
    else:
        assert media.audio or media.video
        assert len(m_lines(answer)) == sum(
            line.strip().startswith("m=") for line in text.replace("\r", "\n").split("\n")
        )
    for read in (lambda: read_answer(text, LOCAL), lambda: make_offer(LOCAL, text)):
        try:
            read()
        except SdpError:
            pass
