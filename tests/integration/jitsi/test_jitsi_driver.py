"""A call in a Jitsi room: a real Prosody, a small focus with a real peer connection, and the driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from xml.etree.ElementTree import Element

import pytest

from sipmediadeploy.gateway.conference import stay
from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, Participant, RoomRefused
from sipmediadeploy.gateway.conference.jitsi import jingle, jingle_sdp, muc, stanzas, visit
from sipmediadeploy.gateway.conference.jitsi.bridge_channel import DataChannel
from sipmediadeploy.gateway.conference.jitsi.driver import JitsiDriver
from sipmediadeploy.gateway.conference.jitsi.muc import Source
from sipmediadeploy.gateway.conference.jitsi.stanzas import element
from sipmediadeploy.gateway.conference.stay import Stay
from sipmediadeploy.protocol.replica import ConferenceAccess
from tests.harness.ports import free_port
from tests.harness.waiting import until, until_async
from tests.integration.conference.guests import Guest as Caller
from tests.integration.conference.guests import caller
from tests.integration.jitsi.focus import Focus
from tests.integration.jitsi.guests import ROOM, Guest, guest
from tests.integration.jitsi.prosody_server import ProsodyServer, needs_prosody
from tests.integration.media_terminal import BLUE, RED, amplitude

pytestmark = [pytest.mark.integration, needs_prosody]
LOW, HIGH = 440.0, 1000.0
ADMIN, OWNER = "http://jabber.org/protocol/muc#admin", "http://jabber.org/protocol/muc#owner"


async def join(ann: Caller, focus: Focus) -> str:
    """Join; returns the endpoint id."""
    driver = JitsiDriver(focus.access, "test-gateway-0")
    ann.session = await driver.join(Participant("Demo", "Ann"), ann.worker, ann.ended.append)
    return endpoint_of(ann)


def endpoint_of(ann: Caller) -> str:
    session: object = ann.session
    assert isinstance(session, Stay)
    inside = session._visit
    assert isinstance(inside, visit.Visit)
    return inside._room.me.endpoint


async def sees_and_hears(ann: Caller) -> None:
    await until("Ann sees the room", lambda: ann.terminal.sees(BLUE))
    await until_async("Ann hears the room", lambda: ann.terminal.hears(HIGH))


async def test_a_call_that_knows_only_the_address_sees_and_hears_the_room(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    assert [r["room"] for r in focus.requests] == [ROOM, ROOM]  # it was not ready at first
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    await until("the picture is asked for", lambda: focus.constraints.get("lastN") == 1)
    own = {"colibriClass": "SourceVideoTypeMessage", "sourceName": f"{endpoint}-v0", "videoType": "camera"}
    await until("its own picture is told of", lambda: own in focus.said)
    accept = jingle.parse_jingle(focus.jingle[0][1], "")
    named = [source.name for content in accept.contents for source in content.sources]
    assert named == [f"{endpoint}-a0", f"{endpoint}-v0", f"{endpoint}-v0"]
    assert not ann.ended


async def test_the_focus_learns_what_it_can_do(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    question = element(stanzas.DISCO_INFO, "query")
    answer = await focus.connection.iq("get", f"{ROOM}/{endpoint}", question)
    assert "http://jitsi.org/ssrc-rewriting-1" in [x.get("var") for x in answer[0]]


async def test_a_session_that_was_ended_is_followed_by_a_new_one(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    await focus.terminate(endpoint)
    before = ann.terminal.frames_received
    await focus.initiate(endpoint)
    await until("Ann gets a picture again", lambda: ann.terminal.frames_received > before + 15)
    before = ann.terminal.frames_received
    await focus.initiate(endpoint, "transport-replace")
    assert focus.actions("transport-accept") == 1
    await until("Ann gets a picture over the new way", lambda: ann.terminal.frames_received > before + 15)
    assert not ann.ended


async def test_a_peer_connection_that_fails_is_made_anew(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    assert ann.session is not None
    ann.session.peer_state("jitsi-1-1", "failed")
    await until("a new session is asked for", lambda: focus.actions("session-terminate"))
    bridge = focus.jingle[-1][1].find(f"{{{stanzas.FOCUS}}}bridge-session")
    assert bridge is not None
    assert (bridge.get("id"), bridge.get("restart")) == ("b1", "true")
    await focus.initiate(endpoint)
    await until("the new one is connected", lambda: "jitsi-1-2" in ann.connected)
    assert not ann.ended


async def test_a_focus_that_makes_no_new_session_is_asked_by_a_new_visit(
    ann: Caller, focus: Focus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "RESTART_S", 0.5)
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    assert ann.session is not None
    ann.session.peer_state("jitsi-1-1", "failed")
    await until("Ann is back", lambda: len(focus.requests) > 2)
    assert not ann.ended


async def test_a_broken_channel_is_made_again_and_says_what_is_wanted(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await until("the picture is asked for", lambda: focus.constraints)
    focus.said.clear()
    await focus.break_channel()
    await until("the picture is asked for again", lambda: focus.constraints.get("lastN") == 1)


@pytest.mark.parametrize("ways", [("data",), ("data", "web-socket")])
async def test_a_bridge_with_a_data_channel_is_spoken_to_over_it(
    ann: Caller, focus: Focus, ways: tuple[str, ...]
) -> None:
    focus.ways = ways
    await focus.initiate(await join(ann, focus))
    await sees_and_hears(ann)
    await until("the picture is asked for", lambda: focus.constraints.get("lastN") == 1)
    assert focus.said == [], "nothing was said over a WebSocket"
    await forward(ann, focus, "o-v0")  # what the bridge says over it is heard
    await until("the picture is a card", lambda: not ann.terminal.sees(BLUE))


async def test_a_data_channel_that_does_not_open_is_replaced_by_the_web_socket(
    ann: Caller, focus: Focus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataChannel, "hear", lambda *_: None)
    focus.ways = ("data", "web-socket")
    await focus.initiate(await join(ann, focus))
    await until("the picture is asked for", lambda: [m for m in focus.said if "lastN" in m], 10)
    await sees_and_hears(ann)


async def test_a_shared_screen_is_preferred_while_there_is_one(
    ann: Caller, focus: Focus, server: ProsodyServer
) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    async with guest(server, "Bob", "bbbbbbbb") as bob:
        share(bob, muted=False)
        await until(
            "the screen is asked for", lambda: focus.constraints.get("selectedSources") == ["bbbbbbbb-v1"]
        )
        share(bob, muted=True)
        await until("the speaker is asked for", lambda: focus.constraints.get("selectedSources") == [])
        share(bob, muted=False)
        await until(
            "the screen is asked for", lambda: focus.constraints.get("selectedSources") == ["bbbbbbbb-v1"]
        )
    await until("the speaker is asked for", lambda: focus.constraints.get("selectedSources") == [])


def share(bob: Guest, *, muted: bool) -> None:
    presence = muc.presence(bob.me, join=True)
    info = presence.find(f"{{{stanzas.CLIENT}}}SourceInfo")
    assert info is not None
    info.text = json.dumps({"bbbbbbbb-v1": {"muted": muted, "videoType": "desktop"}})
    bob.connection.send(presence)


async def forward(ann: Caller, focus: Focus, source: str) -> None:
    """Tell of two sources, of which ``s-v0`` is what comes, and that one is forwarded."""
    await until("the channel is open", lambda: focus.constraints)
    for name, ssrc in (("s-v0", focus.video_ssrc), ("o-v0", 12345)):
        mapped = {"source": name, "owner": name[0], "ssrc": ssrc}
        await focus.say(json.dumps({"colibriClass": "VideoSourcesMap", "mappedSources": [mapped]}))
    await focus.say(json.dumps({"colibriClass": "ForwardedSources", "forwardedSources": [source]}))


async def test_while_what_is_forwarded_does_not_come_the_terminal_sees_a_card(
    ann: Caller, focus: Focus
) -> None:
    await focus.initiate(await join(ann, focus))
    await sees_and_hears(ann)
    await forward(ann, focus, "o-v0")
    await until("the picture is a card", lambda: not ann.terminal.sees(BLUE))


async def test_the_bridge_is_asked_anew_while_a_picture_does_not_come(
    ann: Caller, focus: Focus, server: ProsodyServer
) -> None:
    await focus.initiate(await join(ann, focus))
    await sees_and_hears(ann)
    await forward(ann, focus, "o-v0")  # named, and not sent
    await until("the picture is a card", lambda: not ann.terminal.sees(BLUE))
    assert focus.heights() == {720}, "nobody in the room shows anything"
    async with guest(server, "Bob", "bbbbbbbb") as bob:
        bob.join()  # with a camera
        await until(
            "it is asked anew, and again", lambda: len(focus.asked) > 3 and focus.heights() == {720, 721}
        )
        await forward(ann, focus, "s-v0")
        await until("Ann sees the room again", lambda: ann.terminal.sees(BLUE), 10)
        asked = len(focus.asked)
        before = ann.terminal.frames_received
        await until("the picture goes on", lambda: ann.terminal.frames_received > before + 30)
        assert len(focus.asked) <= asked + 1, "all is well, and the bridge is left alone"


async def test_a_source_that_is_forwarded_again_is_seen_again(ann: Caller, focus: Focus) -> None:
    await focus.initiate(await join(ann, focus))
    await sees_and_hears(ann)
    await forward(ann, focus, "o-v0")
    await until("the picture is a card", lambda: not ann.terminal.sees(BLUE))
    await forward(ann, focus, "s-v0")
    await until("Ann sees the room again", lambda: ann.terminal.sees(BLUE), 10)


async def test_a_peer_to_peer_session_is_declined_and_others_cannot_speak_for_the_focus(
    ann: Caller, focus: Focus, server: ProsodyServer
) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    async with guest(server, "Bob", "bbbbbbbb") as bob:
        bob.join()
        await until("Bob is in the room", lambda: bob.sees("Bob"))
        sid = jingle.Session("session-initiate", "p2p", "bob")
        offer = jingle_sdp.session_accept(
            sid, "v=0\r\nm=audio 9 X 1\r\na=ice-ufrag:a\r\n", WHO, "session-initiate"
        )
        await bob.connection.iq("set", f"{ROOM}/{endpoint}", offer)
        await until("it is declined", lambda: [s for s in bob.stanzas if declines(s)])
        with pytest.raises(Exception, match="item-not-found"):
            await bob.connection.iq("set", f"{ROOM}/{endpoint}", jingle_sdp.session_terminate("s1", "gone"))
    before = ann.terminal.frames_received
    await until("the picture goes on", lambda: ann.terminal.frames_received > before + 15)


WHO = jingle_sdp.Accepting("bob", "bbbbbbbb")


def declines(stanza: Element) -> bool:
    return (
        stanza.find(f"{{{jingle.JINGLE}}}jingle/{{{jingle.JINGLE}}}reason/{{{jingle.JINGLE}}}decline")
        is not None
    )


async def test_nonsense_from_focus_and_bridge_costs_nothing(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    for attributes in ({}, {"action": "session-initiate"}, {"action": "source-add", "sid": "x"}):
        stanza = element(jingle.JINGLE, "jingle", attributes, element(jingle.JINGLE, "content"))
        with pytest.raises(Exception, match="bad-request"):
            await focus.connection.iq("set", f"{ROOM}/{endpoint}", stanza)
    for text in ("", "[" * 5000, '{"colibriClass":"VideoSourcesMap"}', '{"colibriClass":"ServerHello"}'):
        await focus.say(text)
    before = ann.terminal.frames_received
    await until("the picture goes on", lambda: ann.terminal.frames_received > before + 15)
    assert not ann.ended


async def test_who_is_muted_by_a_moderator_is_silent_and_shown_as_muted(
    ann: Caller, focus: Focus, server: ProsodyServer
) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await until_async("she is heard", lambda: focus.terminal.hears(LOW))
    async with guest(server, "Bob", "bbbbbbbb") as bob:
        bob.join()
        await until("Bob sees Ann", lambda: bob.sees("Ann"))
        mute = element("http://jitsi.org/jitmeet/audio", "mute", {"jid": f"{ROOM}/{endpoint}"}, text="true")
        await focus.connection.iq("set", f"{ROOM}/{endpoint}", mute)
        muted = Source(f"{endpoint}-a0", True)
        await until("Bob sees her muted", lambda: (a := bob.sees("Ann")) and muted in a.sources)
        await until_async("nothing is heard of her", focus_hears_nothing(focus))
        mute.text = "false"
        await focus.connection.iq("set", f"{ROOM}/{endpoint}", mute)
        await until_async("she is heard again", lambda: focus.terminal.hears(LOW))


def focus_hears_nothing(focus: Focus) -> Callable[[], Awaitable[bool]]:
    async def silent() -> bool:
        return amplitude(await focus.terminal.listen(), LOW) < 0.01

    return silent


async def test_a_picture_that_nobody_watches_is_not_sent(ann: Caller, focus: Focus) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await until("she is seen", lambda: focus.terminal.sees(RED))
    wanted = {"colibriClass": "SenderSourceConstraints", "sourceName": f"{endpoint}-v0"}
    await focus.say(json.dumps({**wanted, "maxHeight": 0}))

    async def no_picture_comes() -> bool:
        before = focus.terminal.frames_received
        await asyncio.sleep(0.7)
        return focus.terminal.frames_received == before

    await until_async("no picture comes", no_picture_comes, 10)
    assert await focus.terminal.hears(LOW)
    frames, keyframes = focus.terminal.frames_received, focus.terminal.keyframes_received
    await focus.say(json.dumps({**wanted, "maxHeight": 360}))
    await until("the picture goes on", lambda: focus.terminal.frames_received > frames + 5, 10)
    await until("it has begun anew", lambda: focus.terminal.keyframes_received > keyframes, 5)


@pytest.mark.parametrize("how", ["kicked", "room-closed"])
async def test_who_is_put_out_ends_with_that_reason(ann: Caller, focus: Focus, how: str) -> None:
    endpoint = await join(ann, focus)  # the focus made the room: it may do all
    kick = element(ADMIN, "query", None, element(ADMIN, "item", {"nick": endpoint, "role": "none"}))
    close = element(OWNER, "query", None, element(OWNER, "destroy"))
    await focus.connection.iq("set", ROOM, kick if how == "kicked" else close)
    await until("the call has ended", lambda: ann.ended == [how])


async def test_calls_stay_and_come_back_when_prosody_restarts(
    ann: Caller, focus: Focus, server: ProsodyServer
) -> None:
    endpoint = await join(ann, focus)
    await focus.initiate(endpoint)
    await sees_and_hears(ann)
    await server.kill()
    await server.start()
    await until("Ann is back", lambda: len(focus.requests) > 2)
    await until("she is in the room", lambda: ann.session is not None and new_endpoint(ann, endpoint))
    before = ann.terminal.frames_received
    await focus.initiate(endpoint_of(ann))
    await until("Ann gets a picture again", lambda: ann.terminal.frames_received > before + 15)
    assert not ann.ended


def new_endpoint(ann: Caller, old: str) -> bool:
    session: object = ann.session
    inside = session._visit if isinstance(session, Stay) else None
    if not isinstance(inside, visit.Visit) or inside._joined is None:
        return False
    return inside._room.inside and inside._room.me.endpoint != old


async def test_a_conference_that_stays_away_ends_the_call(
    ann: Caller, focus: Focus, server: ProsodyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stay, "GIVE_UP_S", 1.0)
    await join(ann, focus)
    await server.kill()
    await until("the call has ended", lambda: ann.ended == ["conference-lost"], 40)


async def test_who_may_not_begin_a_meeting_is_refused(ann: Caller, focus: Focus) -> None:
    focus.status = 403
    with pytest.raises(RoomRefused, match="hosts"):
        await join(ann, focus)
    assert ann.session is None


async def test_a_jitsi_that_is_not_there_is_unavailable() -> None:
    access = ConferenceAccess(platform="jitsi", url=f"http://127.0.0.1:{free_port()}", turn="never")
    async with caller(LOW) as ann:
        with pytest.raises(ConferenceUnavailable, match=r"127\.0\.0\.1"):
            await JitsiDriver(access, "g").join(Participant("demo", "Ann"), ann.worker, ann.ended.append)
