"""What ends a wait in a lobby, and what does not."""

from __future__ import annotations

import pytest

from sipmediadeploy.gateway.conference.jitsi.lobby import Lobby, Outcome
from sipmediadeploy.gateway.conference.jitsi.muc import Self
from sipmediadeploy.gateway.conference.jitsi.stanzas import parse_stanza, to_text

ROOM, LOBBY = "demo@conference.test", "demo@lobby.test"
ME = Self(ROOM, "abcd1234", "Room 101")


def lobby() -> Lobby:
    return Lobby(ME, LOBBY)


def invite(sender: str = ROOM, *, inside: str = "", kind: str = "") -> str:
    return (
        f"<message xmlns='jabber:client' from='{sender}' {kind}><x xmlns='http://jabber.org/protocol/muc#user'>"
        f"<invite from='mod@test/x'/>{inside}</x></message>"
    )


def gone(inside: str, sender: str = f"{LOBBY}/abcd1234") -> str:
    return (
        f"<presence xmlns='jabber:client' type='unavailable' from='{sender}'>"
        f"<x xmlns='http://jabber.org/protocol/muc#user'>{inside}</x></presence>"
    )


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (invite(), Outcome("admitted")),
        (invite(inside="<password>7</password>"), Outcome("admitted", "7")),
        (gone("<destroy jid='demo@conference.test'/>"), Outcome("admitted")),
        (gone("<status code='307'/>"), Outcome("refused")),
        (gone(""), Outcome("refused")),
        (
            f"<presence xmlns='jabber:client' type='error' from='{LOBBY}/abcd1234'><error type='auth'>"
            "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>",
            Outcome("impossible", text="banned from the room"),
        ),
    ],
)
def test_what_ends_the_wait(text: str, outcome: Outcome) -> None:
    waiting = lobby()
    assert waiting.hear(parse_stanza(text))
    assert waiting.outcome == outcome


@pytest.mark.parametrize(
    "text",
    [
        invite("eve@test/x"),
        invite(f"{ROOM}/eve"),
        invite(LOBBY),
        invite(kind="type='error'"),
        f"<message xmlns='jabber:client' from='{ROOM}'><body>hello</body></message>",
        gone("<status code='307'/>", f"{LOBBY}/other000"),
        gone("<status code='307'/>", f"{ROOM}/abcd1234"),
    ],
)
def test_what_others_say_ends_nothing(text: str) -> None:
    waiting = lobby()
    assert not waiting.hear(parse_stanza(text))
    assert waiting.outcome is None


def test_who_waits_is_shown_by_name_and_nothing_more() -> None:
    text = to_text(lobby().presence())
    assert f"to='{LOBBY}/abcd1234'" in text.replace('"', "'")
    assert "Room 101" in text
    assert "SourceInfo" not in text
