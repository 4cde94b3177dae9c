"""What webrtcbin is shown of an SDP, and what a platform is shown of webrtcbin's."""

from __future__ import annotations

import pytest

from sipmediadeploy.gateway.media.webrtc_sdp import (
    AUDIO_LEVEL_URI,
    for_platform,
    for_webrtcbin,
    parse_sdp,
    profiles_of,
    with_receiver,
)

BROWSER = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111 63
c=IN IP4 0.0.0.0
a=mid:0
a=extmap:4/sendonly urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=candidate:1 1 udp 1 fe80::1 9 typ host
a=candidate:2 1 udp 1 192.0.2.7 9 typ host
a=candidate:3 1 udp 1 8a7b.local 9 typ host
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 108 109 125
c=IN IP4 0.0.0.0
a=mid:1
a=recvonly
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=rtpmap:108 H264/90000
a=rtcp-fb:108 nack pli
a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:109 rtx/90000
a=fmtp:109 apt=108
a=rtpmap:125 H264/90000
a=fmtp:125 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
a=ssrc:11 cname:x
a=ssrc:12 cname:x
"""


def test_webrtcbin_sees_one_h264_format_without_a_profile_and_then_vp8() -> None:
    video = parse_sdp(for_webrtcbin(parse_sdp(BROWSER))).media[1]
    assert video.formats == (108, 96, 97, 109)
    assert video.attribute("fmtp", 108) == "packetization-mode=1"
    assert video.attribute("fmtp", 109) == "apt=108"
    assert not any(":102" in x or ":125" in x for x in video.lines)


def test_webrtcbin_sees_only_candidates_that_can_work() -> None:
    audio = parse_sdp(for_webrtcbin(parse_sdp(BROWSER))).media[0]
    assert [x for x in audio.lines if "candidate" in x] == ["a=candidate:2 1 udp 1 192.0.2.7 9 typ host"]
    assert audio.attribute("fmtp", 111) == "minptime=10;useinbandfec=1"


def test_video_without_a_usable_format_is_left_alone() -> None:
    only_vp8 = BROWSER.replace("packetization-mode=1", "packetization-mode=0")
    assert parse_sdp(for_webrtcbin(parse_sdp(only_vp8))).media[1].formats[:2] == (96, 97)


def test_a_section_tells_its_facts() -> None:
    audio, video = parse_sdp(BROWSER).media
    assert (audio.kind, audio.payload_type("OPUS"), audio.extension(AUDIO_LEVEL_URI)) == ("audio", 111, 4)
    assert (video.kind, video.payload_type("H264"), video.extension(AUDIO_LEVEL_URI)) == ("video", 108, None)
    assert audio.receives
    assert video.receives


@pytest.mark.parametrize(
    ("change", "receives"),
    [
        (("a=recvonly", "a=sendonly"), False),
        (("a=recvonly", "a=inactive"), False),
        (("m=video 9", "m=video 0"), False),
        (("m=video 9", "m=video 9"), True),
    ],
)
def test_it_is_known_who_takes_our_video(change: tuple[str, str], receives: bool) -> None:
    assert parse_sdp(BROWSER.replace(*change)).media[1].receives is receives


def test_a_bundled_section_with_port_0_is_not_rejected() -> None:
    text = BROWSER.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\na=bundle-only")
    assert parse_sdp(text).media[1].receives


LOCAL = """v=0
o=- 1 2 IN IP4 0.0.0.0
s=-
t=0 0
a=ice-options:trickle
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=rtpmap:111 OPUS/48000/2
a=rtcp-fb:111 transport-cc
m=video 0 UDP/TLS/RTP/SAVPF 102
a=bundle-only
a=rtpmap:102 H264/90000
a=fmtp:102 packetization-mode=1
"""


def test_a_platform_gets_candidates_profile_and_ports() -> None:
    gathered = [
        (0, "candidate:1 1 UDP 5 192.0.2.2 1 typ host"),
        (0, "candidate:1 1 UDP 5 192.0.2.2 1 typ host"),
        (0, "candidate:2 1 UDP 5 fe80::1 1 typ host"),
        (0, ""),
    ]
    text = for_platform(parse_sdp(LOCAL), gathered, {102: "42c01e"}, offer=True)
    sdp = parse_sdp(text)
    assert "a=ice-options:trickle" not in sdp.session
    assert [x for x in sdp.media[0].lines if "candidate" in x] == [
        "a=candidate:1 1 UDP 5 192.0.2.2 1 typ host",
        "a=end-of-candidates",
    ]
    assert sdp.media[1].lines[0] == "m=video 9 UDP/TLS/RTP/SAVPF 102"
    assert "a=bundle-only" not in sdp.media[1].lines
    assert profiles_of(sdp) == {102: "42c01e"}
    assert "transport-cc" not in text
    assert text.endswith("\r\n")


def test_an_answer_keeps_its_rejected_section() -> None:
    text = for_platform(parse_sdp(LOCAL.replace("a=bundle-only\n", "")), [], {}, offer=False)
    assert parse_sdp(text).media[1].rejected


def test_what_is_no_sdp_is_an_error() -> None:
    with pytest.raises(ValueError, match="v=0"):
        parse_sdp("hello")


def test_the_source_of_our_rtcp_is_named_where_video_is_received() -> None:
    named = with_receiver(parse_sdp(BROWSER), 77, "me")
    assert [77 in section.ssrcs() for section in named.media] == [False, True]
    assert "a=ssrc:77 cname:me" in named.media[1].lines
    silent = parse_sdp(BROWSER.replace("a=recvonly", "a=inactive"))
    assert with_receiver(silent, 77, "me") == silent
