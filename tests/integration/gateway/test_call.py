"""One call's life: every way in, every way out, nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, RoomRefused
from sipmediadeploy.gateway.reasons import EndReason
from tests.integration.gateway.conftest import Calls
from tests.integration.gateway.wire import Peer, establish, header, reply, request
from tests.unit.gateway.offers import BARESIP, ROOM_CODEC

pytestmark = pytest.mark.integration
FAST_UPDATE = "<media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive>"


def info(peer: Peer, to: str, cseq: int, content_type: str, body: str) -> str:
    text = request("INFO", peer, to=to, cseq=cseq, branch=f"z9hG4bKinfo{cseq}", body=body)
    return text.replace("application/sdp", content_type)


def reinvite(peer: Peer, to: str, cseq: int, body: str) -> str:
    return request("INVITE", peer, to=to, cseq=cseq, branch=f"z9hG4bKre{cseq}", body=body)


async def test_a_call_joins_its_room_with_its_media_and_leaves_with_the_terminals_bye(
    calls: Calls, peer: Peer
) -> None:
    to = await establish(peer, calls.ua.port)
    who = calls.driver.sessions[0].who
    assert (who.room, who.display_name, who.audio, who.video) == ("room", "Room 1", True, True)
    media = calls.workers.workers[0].media[0]
    assert media.audio is not None
    assert media.video is not None
    assert (media.audio.local_port, media.video.local_port) == (40000, 40002)
    peer.send(request("BYE", peer, to=to, cseq=2, branch="z9hG4bKbye"), calls.ua.port)
    assert await calls.end() is EndReason.HANGUP


ENDS: list[tuple[Callable[[Calls], None], EndReason]] = [
    (lambda c: c.workers.workers[0].events.exited("signal 11"), EndReason.WORKER_CRASHED),
    (lambda c: c.workers.workers[0].events.rtp_timeout(), EndReason.RTP_TIMEOUT),
    (lambda c: c.driver.sessions[0].ended("kicked"), EndReason.CONFERENCE_ENDED),
    (lambda c: c.calls[0].finish(EndReason.SHUTDOWN), EndReason.SHUTDOWN),
]


@pytest.mark.parametrize(("happens", "reason"), ENDS, ids=[reason.value for _, reason in ENDS])
async def test_what_ends_the_call_here_says_bye_to_the_terminal(
    calls: Calls, peer: Peer, happens: Callable[[Calls], None], reason: EndReason
) -> None:
    await establish(peer, calls.ua.port)
    happens(calls)
    bye = await peer.expect("BYE")
    peer.send(reply(bye), calls.ua.port)
    assert await calls.end() is reason


def refuse(error: Exception) -> Callable[[Calls], None]:
    def prepare(calls: Calls) -> None:
        calls.driver.refusal = error

    return prepare


def no_worker(calls: Calls) -> None:
    calls.workers.empty = True


def broken_worker(calls: Calls) -> None:
    calls.workers.worker_fails = True


def silent_conference(calls: Calls) -> None:
    calls.driver.silent = True


REFUSALS: list[tuple[Callable[[Calls], None], int, EndReason]] = [
    (refuse(RoomRefused("locked")), 403, EndReason.ROOM_REFUSED),
    (refuse(RoomRefused("full", 486)), 486, EndReason.ROOM_REFUSED),
    (refuse(ConferenceUnavailable("no route")), 503, EndReason.CONFERENCE_UNAVAILABLE),
    (refuse(ValueError("a bug")), 500, EndReason.INTERNAL_ERROR),
    (silent_conference, 504, EndReason.CONFERENCE_TIMEOUT),
    (no_worker, 503, EndReason.NO_WORKER),
    (broken_worker, 503, EndReason.MEDIA_FAILED),
]


@pytest.mark.parametrize(("prepare", "status", "reason"), REFUSALS)
async def test_a_call_that_can_not_be_set_up_is_refused_with_a_reason(
    calls: Calls, peer: Peer, prepare: Callable[[Calls], None], status: int, reason: EndReason
) -> None:
    prepare(calls)
    invite = request("INVITE", peer, body=BARESIP)
    peer.send(invite, calls.ua.port)
    refusal = await peer.expect(f"SIP/2.0 {status}")
    peer.send(request("ACK", peer, to=header(refusal, "To")), calls.ua.port)
    assert await calls.end() is reason


@pytest.mark.parametrize(
    ("uri", "body", "status", "reason"),
    [
        ("sip:a%20b@gw", BARESIP, 404, EndReason.BAD_ROOM),
        ("sip:gw", BARESIP, 404, EndReason.BAD_ROOM),
        (f"sip:{'x' * 65}@gw", BARESIP, 404, EndReason.BAD_ROOM),
        ("sip:..%2f..%00@gw", BARESIP, 404, EndReason.BAD_ROOM),
        ("sip:room@gw", "v=0\r\nm=audio 9 RTP/SAVP 0\r\n", 488, EndReason.BAD_OFFER),
        ("sip:room@gw", "not sdp", 400, EndReason.BAD_OFFER),
    ],
)
async def test_a_bad_room_or_offer_is_refused(
    calls: Calls, peer: Peer, uri: str, body: str, status: int, reason: EndReason
) -> None:
    peer.send(request("INVITE", peer, body=body, uri=uri), calls.ua.port)
    refusal = await peer.expect(f"SIP/2.0 {status}")
    peer.send(request("ACK", peer, to=header(refusal, "To"), uri=uri), calls.ua.port)
    assert await calls.end() is reason


async def test_without_ports_a_call_is_busy_and_the_others_go_on(calls: Calls, peer: Peer) -> None:
    for n in range(2):
        invite = request("INVITE", peer, body=BARESIP, call_id=f"c{n}", branch=f"z9hG4bK{n}")
        peer.send(invite, calls.ua.port)
        to = header(await peer.expect("SIP/2.0 200"), "To")
        peer.send(request("ACK", peer, to=to, branch=f"z9hG4bKa{n}", call_id=f"c{n}"), calls.ua.port)
    peer.send(request("INVITE", peer, body=BARESIP, call_id="c2", branch="z9hG4bK2"), calls.ua.port)
    await peer.expect("SIP/2.0 486")
    assert await calls.running[2] is EndReason.BUSY
    assert [w.closed for w in calls.workers.workers] == [False, False]


async def test_cancel_while_joining_gives_up_the_room_and_the_worker(calls: Calls, peer: Peer) -> None:
    calls.driver.silent = True
    peer.send(request("INVITE", peer, body=BARESIP), calls.ua.port)
    await calls.driver.joining.wait()
    peer.send(request("CANCEL", peer), calls.ua.port)
    gone = await peer.expect("SIP/2.0 487")
    peer.send(request("ACK", peer, to=header(gone, "To")), calls.ua.port)
    assert await calls.end() is EndReason.CANCELLED
    assert calls.driver.given_up


async def test_hold_and_a_moved_terminal_reach_the_worker_and_the_version_grows(
    calls: Calls, peer: Peer
) -> None:
    to = await establish(peer, calls.ua.port)
    worker = calls.workers.workers[0]
    held = BARESIP.replace("a=sendrecv", "a=sendonly")
    moved = BARESIP.replace("m=audio 14222", "m=audio 15000")
    for cseq, body, version in ((2, BARESIP, 1), (3, held, 2), (4, moved, 3)):
        peer.send(reinvite(peer, to, cseq, body), calls.ua.port)
        ok = await peer.expect("SIP/2.0 200")
        while header(ok, "CSeq") != f"{cseq} INVITE":
            ok = await peer.expect("SIP/2.0 200")
        assert f" {version} IN IP4" in ok
        peer.send(request("ACK", peer, to=to, cseq=cseq, branch=f"z9hG4bKack{cseq}"), calls.ua.port)
    audio = [m.audio for m in worker.media]
    assert [a and a.direction for a in audio] == ["sendrecv", "sendrecv", "recvonly", "sendrecv"]
    assert [a and a.remote_port for a in audio] == [14222, 14222, 14222, 15000]


async def test_a_re_invite_without_sdp_gets_an_offer_and_its_answer_counts(calls: Calls, peer: Peer) -> None:
    to = await establish(peer, calls.ua.port)
    peer.send(reinvite(peer, to, 2, ""), calls.ua.port)
    ok = await peer.expect("SIP/2.0 200")
    while "2 INVITE" not in ok:
        ok = await peer.expect("SIP/2.0 200")
    assert "m=video 40002 RTP/AVP 98" in ok
    answer = BARESIP.replace("m=audio 14222", "m=audio 16000")
    peer.send(request("ACK", peer, to=to, cseq=2, branch="z9hG4bKa2", body=answer), calls.ua.port)
    async with asyncio.timeout(30):
        await calls.workers.workers[0].started(2)
    audio = calls.workers.workers[0].media[1].audio
    assert audio is not None
    assert audio.remote_port == 16000


async def test_a_call_without_an_offer_joins_when_the_answer_has_come(calls: Calls, peer: Peer) -> None:
    peer.send(request("INVITE", peer), calls.ua.port)
    ok = await peer.expect("SIP/2.0 200")
    assert not calls.driver.sessions
    peer.send(
        request("ACK", peer, to=header(ok, "To"), branch="z9hG4bKa", body=_answer_to(ok)), calls.ua.port
    )
    async with asyncio.timeout(30):
        await calls.driver.joining.wait()
    peer.send(request("BYE", peer, to=header(ok, "To"), cseq=2, branch="z9hG4bKb"), calls.ua.port)
    assert await calls.end() is EndReason.HANGUP


def _answer_to(ok: str) -> str:
    return (
        ok.split("\r\n\r\n", 1)[1].replace("m=audio 40000", "m=audio 9000").replace("video 40002", "video 0")
    )


async def test_a_call_without_an_answer_in_its_ack_ends(calls: Calls, peer: Peer) -> None:
    peer.send(request("INVITE", peer), calls.ua.port)
    ok = await peer.expect("SIP/2.0 200")
    peer.send(request("ACK", peer, to=header(ok, "To"), branch="z9hG4bKa"), calls.ua.port)
    peer.send(reply(await peer.expect("BYE")), calls.ua.port)
    assert await calls.end() is EndReason.NO_ACK


async def test_video_offered_later_is_refused_when_the_room_was_joined_without(
    calls: Calls, peer: Peer
) -> None:
    audio_only = ROOM_CODEC.replace("m=video 2328", "m=video 0")
    peer.send(request("INVITE", peer, body=audio_only), calls.ua.port)
    to = header(await peer.expect("SIP/2.0 200"), "To")
    peer.send(request("ACK", peer, to=to, branch="z9hG4bKack"), calls.ua.port)
    assert calls.driver.sessions[0].who.video is False
    peer.send(reinvite(peer, to, 2, ROOM_CODEC), calls.ua.port)
    ok = await peer.expect("SIP/2.0 200")
    while "2 INVITE" not in ok:
        ok = await peer.expect("SIP/2.0 200")
    assert "m=video 0 " in ok


async def test_key_frames_are_asked_for_by_info_in_both_directions(calls: Calls, peer: Peer) -> None:
    to = await establish(peer, calls.ua.port)
    worker = calls.workers.workers[0]
    peer.send(info(peer, to, 2, "application/media_control+xml", FAST_UPDATE), calls.ua.port)
    await peer.expect("SIP/2.0 200")
    assert worker.keyframes == 1
    for _ in range(50):
        worker.events.keyframe_wanted()
    asked = await peer.expect("INFO")
    assert "<picture_fast_update/>" in asked
    assert header(asked, "Content-Type") == "application/media_control+xml"
    peer.send(reply(asked), calls.ua.port)
    worker.events.keyframe_wanted()
    started = asyncio.get_running_loop().time()
    again = await peer.expect("INFO")
    assert header(again, "CSeq") != header(asked, "CSeq")
    assert asyncio.get_running_loop().time() - started > 0.2


async def test_a_terminal_that_knows_no_info_is_not_asked_again(calls: Calls, peer: Peer) -> None:
    await establish(peer, calls.ua.port)
    worker = calls.workers.workers[0]
    worker.events.keyframe_wanted()
    peer.send(reply(await peer.expect("INFO"), "405 Method Not Allowed"), calls.ua.port)
    worker.events.keyframe_wanted()
    with pytest.raises(TimeoutError):
        await peer.expect("INFO", within_s=0.6)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "digits"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=250\r\n", 200, 1),
        ("application/dtmf-relay", "Signal= *", 200, 1),
        ("application/dtmf", "7", 200, 1),
        ("application/dtmf-relay", "nonsense", 400, 0),
        ("text/plain", "hello", 415, 0),
    ],
)
async def test_dtmf_by_info(
    calls: Calls, peer: Peer, content_type: str, body: str, status: int, digits: int
) -> None:
    to = await establish(peer, calls.ua.port)
    peer.send(info(peer, to, 2, content_type, body), calls.ua.port)
    await peer.expect(f"SIP/2.0 {status}")
    assert calls.calls[0].dtmf_digits == digits


@pytest.mark.parametrize("media", [True, False])
async def test_without_an_ack_only_media_keeps_the_call(calls: Calls, peer: Peer, media: bool) -> None:
    peer.send(request("INVITE", peer, body=BARESIP), calls.ua.port)
    await peer.expect("SIP/2.0 200")
    calls.workers.workers[0].packets_each_time = 50 if media else 0
    if media:
        assert calls.calls[0].answered_at is not None
        done, _ = await asyncio.wait([calls.running[0]], timeout=64 * 0.05 + 0.5)
        assert not done
    else:
        peer.send(reply(await peer.expect("BYE")), calls.ua.port)
        assert await calls.end() is EndReason.NO_ACK


async def test_an_expired_session_ends_only_a_silent_call(calls: Calls, peer: Peer) -> None:
    await establish(peer, calls.ua.port)
    worker, dialog = calls.workers.workers[0], calls.calls[0].dialog
    assert dialog is not None
    worker.packets_each_time = 10
    dialog.events.expired()
    done, _ = await asyncio.wait([calls.running[0]], timeout=0.3)
    assert not done
    worker.packets_each_time = 0
    dialog.events.expired()
    peer.send(reply(await peer.expect("BYE")), calls.ua.port)
    assert await calls.end() is EndReason.SESSION_EXPIRED


async def test_a_bye_that_nobody_answers_holds_neither_worker_nor_ports(calls: Calls, peer: Peer) -> None:
    await establish(peer, calls.ua.port)
    calls.calls[0].finish(EndReason.RTP_TIMEOUT)
    await peer.expect("BYE")
    assert calls.calls[0].released
    assert calls.ports.free == 4
    assert await calls.end() is EndReason.RTP_TIMEOUT
    assert 'smd_gateway_requests_undelivered_total{method="BYE"} 1.0' in calls.metrics.text().decode()


async def test_what_happens_to_a_peer_connection_reaches_the_session(calls: Calls, peer: Peer) -> None:
    await establish(peer, calls.ua.port)
    calls.workers.workers[0].events.connection("uplink", "failed")
    assert calls.driver.sessions[0].states == [("uplink", "failed")]
