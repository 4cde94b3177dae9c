"""Rooms with a password or a lobby: a real Prosody, digits as RTP, and what the caller sees and hears."""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from sipmediadeploy.gateway.conference import prompts
from sipmediadeploy.gateway.conference.base import Participant
from sipmediadeploy.gateway.conference.jitsi import door, muc, stanzas
from sipmediadeploy.gateway.conference.jitsi.driver import JitsiDriver
from sipmediadeploy.gateway.conference.jitsi.muc import Member, Self
from sipmediadeploy.gateway.conference.jitsi.stanzas import element
from sipmediadeploy.gateway.conference.prompts import Prompt
from tests.harness.waiting import until, until_async
from tests.integration.conference.guests import Guest as Caller
from tests.integration.jitsi.focus import OWNER, Focus
from tests.integration.jitsi.guests import ROOM
from tests.integration.jitsi.prosody_server import (
    DOMAIN,
    ProsodyServer,
    needs_prosody,
)
from tests.integration.jitsi.test_jitsi_driver import endpoint_of, sees_and_hears

pytestmark = [pytest.mark.integration, needs_prosody]
LOBBY = f"demo@lobby.{DOMAIN}"
ADMIN = "http://jabber.org/protocol/muc#admin"
TONES = {prompt: 600.0 + 200 * number for number, prompt in enumerate(Prompt)}


@dataclass
class Shown:
    """What the terminal's drawn picture said, in order."""

    lines: list[tuple[str, ...]] = field(default_factory=list)

    def has(self, *lines: str) -> bool:
        return lines in self.lines


@pytest.fixture(autouse=True)
def spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt is a tone of its own."""
    for prompt, tone in TONES.items():
        with wave.open(str(tmp_path / f"{prompt.value}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(22050)
            samples = (int(12000 * math.sin(2 * math.pi * tone * n / 22050)) for n in range(4 * 22050))
            file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    monkeypatch.setattr(prompts, "DIRECTORY", tmp_path)
    monkeypatch.setattr(door, "GOODBYE_S", 0.1)


@pytest.fixture
def shown(ann: Caller, monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown, describe = Shown(), ann.worker.describe

    async def note(title: str, lines: Sequence[str]) -> None:
        shown.lines.append(tuple(lines))
        await describe(title, lines)

    monkeypatch.setattr(ann.worker, "describe", note)
    return shown


async def join(ann: Caller, focus: Focus) -> None:
    driver = JitsiDriver(focus.access, "test-gateway-0")
    ann.session = await driver.join(Participant("Demo", "Ann"), ann.worker, ann.ended.append)


async def hears(ann: Caller, prompt: Prompt) -> None:
    await until_async(f"Ann hears {prompt}", lambda: ann.terminal.hears(TONES[prompt]), 10)


def dial(ann: Caller, digits: str) -> None:
    for digit in digits:
        ann.terminal.press(digit)


# Passwords


async def test_a_password_is_dialled_and_kept_for_coming_back(
    ann: Caller, focus: Focus, server: ProsodyServer, shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    await focus.configure(passwordprotectedroom="1", roomsecret="4711")
    await join(ann, focus)
    await until("Ann reads that there is one", lambda: shown.has(*door.ASKED))
    await hears(ann, Prompt.DIAL)
    dial(ann, "99*4711#")
    await hears(ann, Prompt.ADMITTED)
    await focus.initiate(endpoint_of(ann))
    await sees_and_hears(ann)
    first = endpoint_of(ann)
    await server.kill()
    await server.start()
    await until("Ann is back without dialling", lambda: is_inside(ann) and endpoint_of(ann) != first)
    assert not ann.ended
    assert "4711" not in caplog.text


def is_inside(ann: Caller) -> bool:
    visit = getattr(ann.session, "_visit", None)
    joined = getattr(visit, "_joined", None)
    return joined is not None and joined.inside


async def test_three_wrong_passwords_end_the_call(ann: Caller, focus: Focus, shown: Shown) -> None:
    await focus.configure(passwordprotectedroom="1", roomsecret="4711")
    await join(ann, focus)
    await until("Ann is asked", lambda: shown.has(*door.ASKED))
    dial(ann, "1#")
    await until("Ann is asked again", lambda: shown.lines.count(door.WRONG) == 1)
    await hears(ann, Prompt.DIAL_AGAIN)
    dial(ann, "#2#")
    await until("and again", lambda: shown.lines.count(door.WRONG) == 2)
    dial(ann, "3#")
    await until("the call has ended", lambda: ann.ended == ["wrong-password"])


async def test_who_dials_nothing_goes(ann: Caller, focus: Focus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "DIAL_S", 0.3)
    await focus.configure(passwordprotectedroom="1", roomsecret="4711")
    await join(ann, focus)
    await until("the call has ended", lambda: ann.ended == ["no-password"])


# Lobbies


async def waiting(ann: Caller, focus: Focus, shown: Shown) -> Member:
    """Ann waits in the lobby, where the focus, as a moderator, sees her."""
    await focus.configure(membersonly="1")
    me = Self(LOBBY, "moderator", "Moderator")
    focus.connection.send(muc.presence(me, join=True))
    await join(ann, focus)

    def seen() -> Member | None:
        told = (muc.parse_presence(s, me) for s in focus.stanzas if stanzas.local_name(s) == "presence")
        return next((t for t in told if isinstance(t, Member) and t.name == "Ann"), None)

    await until("the moderator sees her", seen)
    await until("Ann reads that she must wait", lambda: shown.has(*door.LOBBY))
    await hears(ann, Prompt.LOBBY)
    found = seen()
    assert found is not None
    return found


def invite(jid: str | None, **more: Element) -> Element:
    invited = element(stanzas.MUC_USER, "invite", {"to": jid})
    about = element(stanzas.MUC_USER, "x", None, invited, *more.values())
    return element(stanzas.CLIENT, "message", {"to": ROOM}, about)


async def test_who_is_let_in_is_in_the_room(ann: Caller, focus: Focus, shown: Shown) -> None:
    guest = await waiting(ann, focus, shown)
    focus.connection.send(invite(guest.jid))
    await hears(ann, Prompt.ADMITTED)
    await focus.initiate(endpoint_of(ann))
    await sees_and_hears(ann)
    assert not ann.ended


async def test_who_is_refused_reads_it_and_goes(ann: Caller, focus: Focus, shown: Shown) -> None:
    guest = await waiting(ann, focus, shown)
    kick = element(ADMIN, "query", None, element(ADMIN, "item", {"nick": guest.endpoint, "role": "none"}))
    await focus.connection.iq("set", LOBBY, kick)
    await until("Ann reads it", lambda: shown.has(*door.REFUSED))
    await until("the call has ended", lambda: ann.ended == ["refused"])


async def test_a_lobby_that_is_taken_away_lets_everybody_in(ann: Caller, focus: Focus, shown: Shown) -> None:
    await waiting(ann, focus, shown)
    await focus.configure(membersonly="0")
    await focus.connection.iq("set", LOBBY, element(OWNER, "query", None, element(OWNER, "destroy")))
    await hears(ann, Prompt.ADMITTED)
    assert is_inside(ann)


async def test_nobody_waits_for_ever(
    ann: Caller, focus: Focus, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "WAIT_S", 1.0)
    await focus.configure(membersonly="1")
    await join(ann, focus)
    await until("the call has ended", lambda: ann.ended == ["lobby-timeout"])


async def test_an_outage_at_the_door_is_waited_for(
    ann: Caller, focus: Focus, server: ProsodyServer, shown: Shown
) -> None:
    await waiting(ann, focus, shown)
    shown.lines.clear()
    await server.kill()
    await server.start()
    await until("Ann waits again", lambda: shown.has(*door.LOBBY))
    assert not ann.ended
