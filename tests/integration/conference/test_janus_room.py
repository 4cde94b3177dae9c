"""Calls in a room of a real Janus, with real media workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sipmediadeploy.gateway.conference import stay
from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, Participant, RoomRefused
from sipmediadeploy.gateway.conference.janus import JanusDriver
from sipmediadeploy.gateway.conference.janus_api import Event, JanusConnection, JanusError
from sipmediadeploy.protocol.replica import ConferenceAccess
from tests.harness.ports import free_port
from tests.harness.waiting import until, until_async
from tests.integration.conference.guests import ROOM, caller, guest
from tests.integration.conference.janus_server import JanusServer, needs_janus, running_janus
from tests.integration.media_terminal import BLUE, GREEN, RED

pytestmark = [pytest.mark.integration, needs_janus]

LOW, HIGH, THIRD = 440.0, 1000.0, 1700.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[JanusServer]:
    async with running_janus(tmp_path) as running:
        yield running


async def operator(server: JanusServer, body: dict[str, object]) -> Event:
    """A request to the video room by nobody in particular."""
    connection = await JanusConnection.open(server.url, lambda _: None)
    try:
        return await connection.request(await connection.attach("janus.plugin.videoroom"), body)
    finally:
        await connection.close()


async def people(server: JanusServer, room: str = ROOM) -> dict[str, str]:
    """Display name -> id of all in the room."""
    reply = await operator(server, {"request": "listparticipants", "room": room})
    return {p["display"]: p["id"] for p in reply.data["participants"]}


async def test_two_calls_see_and_hear_each_other(server: JanusServer) -> None:
    started = time.monotonic()
    async with guest(server.url, "Ann", LOW, RED) as ann, guest(server.url, "Bob", HIGH, BLUE) as bob:
        await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
        print(f"first picture after {time.monotonic() - started:.2f} s")
        await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
        await until_async("Ann hears Bob", lambda: ann.terminal.hears(HIGH))
        await until_async("Bob hears Ann", lambda: bob.terminal.hears(LOW))
        assert set(await people(server)) == {"Ann", "Bob"}
        assert not await ann.terminal.hears(LOW)


async def test_the_picture_follows_the_speaker_and_everybody_is_heard(server: JanusServer) -> None:
    async with (
        guest(server.url, "Ann", LOW, RED) as ann,
        guest(server.url, "Bob", HIGH, BLUE) as bob,
        guest(server.url, "Cid", THIRD, GREEN) as cid,
    ):
        await until_async("Ann hears both", lambda: ann.terminal.hears(HIGH, THIRD), 20)
        for speaker, silent, colour in ((cid, bob, GREEN), (bob, cid, BLUE), (cid, bob, GREEN)):
            silent.terminal.speak(False)
            speaker.terminal.speak(True)
            await until(f"Ann sees {colour}", lambda colour=colour: ann.terminal.sees(colour), 10)  # type: ignore[misc]
        assert not ann.ended


async def test_who_comes_and_goes_is_seen_and_heard_in_turn(server: JanusServer) -> None:
    async with guest(server.url, "Ann", LOW, RED) as ann:
        for name, tone, colour in (("Bob", HIGH, BLUE), ("Cid", THIRD, GREEN), ("Dot", HIGH, BLUE)):
            async with guest(server.url, name, tone, colour):
                await until(f"Ann sees {name}", lambda colour=colour: ann.terminal.sees(colour))  # type: ignore[misc]
                await until_async(f"Ann hears {name}", lambda tone=tone: ann.terminal.hears(tone))  # type: ignore[misc]
        assert not ann.ended


async def test_a_call_without_video_is_heard_and_hears(server: JanusServer) -> None:
    async with guest(server.url, "Ann", LOW) as ann, guest(server.url, "Bob", HIGH, BLUE) as bob:
        await until_async("Ann hears Bob", lambda: ann.terminal.hears(HIGH))
        await until_async("Bob hears Ann", lambda: bob.terminal.hears(LOW))


async def test_hasty_guests_leave_a_room_that_works(server: JanusServer) -> None:
    async with guest(server.url, "Ann", LOW, RED) as ann:

        async def visit(number: int) -> None:
            for _ in range(3):
                async with guest(server.url, f"Hasty {number}", 2500):
                    await asyncio.sleep(0.1 * number)  # leaves at an awkward moment, on purpose

        await asyncio.gather(*(visit(number) for number in range(3)))
        async with guest(server.url, "Bob", HIGH, BLUE) as bob:
            await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
            await until_async("Ann hears Bob", lambda: ann.terminal.hears(HIGH))
            await until("Bob sees Ann", lambda: bob.terminal.sees(RED))
            assert set(await people(server)) == {"Ann", "Bob"}
        assert not ann.ended


async def test_callers_who_come_at_once_share_one_new_room(server: JanusServer) -> None:
    access = ConferenceAccess(platform="janus", url=server.url, turn="never")
    async with caller(LOW) as ann, caller(HIGH) as bob:
        sessions = await asyncio.gather(
            JanusDriver(access, "g0").join(Participant("New", "Ann"), ann.worker, ann.ended.append),
            JanusDriver(access, "g1").join(Participant("new", "Bob"), bob.worker, bob.ended.append),
        )
        ann.session, bob.session = sessions
        assert set(await people(server, "new")) == {"Ann", "Bob"}


async def test_who_is_kicked_is_out_with_that_reason(server: JanusServer) -> None:
    await operator(server, {"request": "create", "room": ROOM, "secret": "s", "publishers": 6})
    async with guest(server.url, "Ann", LOW) as ann:
        kicked = (await people(server))["Ann"]
        await operator(server, {"request": "kick", "room": ROOM, "secret": "s", "id": kicked})
        await until("the call has ended", lambda: ann.ended == ["kicked"])


async def test_who_is_in_a_room_that_is_closed_is_out_with_that_reason(server: JanusServer) -> None:
    await operator(server, {"request": "create", "room": ROOM, "secret": "s"})
    async with guest(server.url, "Ann", LOW) as ann, guest(server.url, "Bob", HIGH) as bob:
        await until_async("Ann hears Bob", lambda: ann.terminal.hears(HIGH))
        await operator(server, {"request": "destroy", "room": ROOM, "secret": "s"})
        await until("both calls have ended", lambda: ann.ended == bob.ended == ["room-closed"])


async def test_nobody_can_close_a_room_that_a_call_made(server: JanusServer) -> None:
    async with guest(server.url, "Ann", LOW):
        with pytest.raises(JanusError, match="secret"):
            await operator(server, {"request": "destroy", "room": ROOM})


async def test_calls_stay_and_come_back_when_the_conference_restarts(server: JanusServer) -> None:
    async with guest(server.url, "Ann", LOW, RED) as ann, guest(server.url, "Bob", HIGH, BLUE) as bob:
        await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
        await server.kill()
        await server.start()
        ann_before, bob_before = ann.terminal.frames_received, bob.terminal.frames_received
        await until("Ann gets a picture again", lambda: ann.terminal.frames_received > ann_before + 15, 30)
        await until("Bob gets a picture again", lambda: bob.terminal.frames_received > bob_before + 15, 30)
        await until_async("Ann hears Bob", lambda: ann.terminal.hears(HIGH))
        assert not await ann.terminal.hears(LOW)
        assert not ann.ended
        assert not bob.ended


async def test_a_peer_connection_that_fails_is_made_anew(server: JanusServer) -> None:
    async with guest(server.url, "Ann", LOW, RED) as ann, guest(server.url, "Bob", HIGH, BLUE) as bob:
        await until("Ann sees Bob", lambda: ann.terminal.sees(BLUE))
        assert ann.session is not None
        ann.session.peer_state("receive-1", "failed")
        await until("the new one is connected", lambda: {"send-2", "receive-2"} <= ann.connected)
        await until_async("Bob hears Ann", lambda: bob.terminal.hears(LOW))
        assert not ann.ended


async def test_a_conference_that_stays_away_ends_the_call(
    server: JanusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stay, "GIVE_UP_S", 1.0)
    async with guest(server.url, "Ann", LOW) as ann:
        await server.kill()
        await until("the call has ended", lambda: ann.ended == ["conference-lost"])


async def test_a_conference_that_is_not_there_is_unavailable() -> None:
    access = ConferenceAccess(platform="janus", url=f"ws://127.0.0.1:{free_port()}/", turn="never")
    async with caller(LOW) as ann:
        with pytest.raises(ConferenceUnavailable, match=r"127\.0\.0\.1"):
            await JanusDriver(access, "g").join(Participant(ROOM, "Ann"), ann.worker, ann.ended.append)


@pytest.mark.parametrize(
    ("options", "status"), [({"pin": "1234"}, 403), ({"publishers": 1}, 486)], ids=["pin", "full"]
)
async def test_a_room_that_takes_nobody_refuses(
    server: JanusServer, options: dict[str, object], status: int
) -> None:
    await operator(server, {"request": "create", "room": ROOM, **options})
    access = ConferenceAccess(platform="janus", url=server.url, turn="never")
    async with caller(LOW) as ann, caller(HIGH) as bob:
        if "publishers" in options:
            who = Participant(ROOM, "Ann", video=False)
            ann.session = await JanusDriver(access, "g").join(who, ann.worker, ann.ended.append)
            await until("Ann sends", lambda: "send-1" in ann.connected)
        with pytest.raises(RoomRefused) as refused:
            await JanusDriver(access, "g").join(Participant(ROOM, "Bob"), bob.worker, bob.ended.append)
        assert refused.value.status == status
