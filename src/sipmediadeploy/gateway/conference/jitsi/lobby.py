"""The lobby in front of a room: another room, where guests wait until a moderator lets them in. Pure.

Source: Jitsi's ``mod_muc_lobby_rooms``. Who may not enter is told the lobby's JID and joins it. To be let in
is a mediated invitation (XEP-0045, section 7.8.2) from the room; to be refused is to be kicked from the
lobby; when the lobby is taken away it is destroyed, and everybody may enter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.jitsi import muc, stanzas
from sipmediadeploy.gateway.conference.jitsi.muc import Left, Refused, Self
from sipmediadeploy.gateway.conference.jitsi.stanzas import CLIENT, element, find, text_of

MAX_PASSWORD = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """How waiting has ended; ``password`` comes with some invitations."""

    kind: Literal["admitted", "refused", "impossible"]
    password: str | None = None
    text: str = ""


class Lobby:
    """One wait in a lobby."""

    def __init__(self, me: Self, lobby: str) -> None:
        """``me``: who waits, as he will be in the room; ``lobby``: the lobby's JID."""
        self._room = me.room
        self._me = replace(me, room=lobby)
        self.outcome: Outcome | None = None

    def presence(self) -> Element:
        """The presence that joins the lobby: who waits is shown to the moderators by name."""
        return element(
            CLIENT,
            "presence",
            {"to": self._me.jid},
            element(stanzas.MUC, "x"),
            element(stanzas.NICK, "nick", text=self._me.name),
        )

    def leave(self) -> Element:
        """The presence that leaves it."""
        return muc.leave(self._me)

    def hear(self, stanza: Element) -> bool:
        """Take a presence or message stanza; False: it is not about this lobby."""
        outcome = self._invitation(stanza) if stanzas.local_name(stanza) == "message" else self._told(stanza)
        self.outcome = self.outcome or outcome
        return outcome is not None

    def _invitation(self, message: Element) -> Outcome | None:
        if message.get("from") != self._room or message.get("type") == "error":
            return None
        about = find(message, stanzas.MUC_USER, "x")
        if find(about, stanzas.MUC_USER, "invite") is None:
            return None
        password = text_of(about, stanzas.MUC_USER, "password")
        return Outcome("admitted", password[:MAX_PASSWORD] if password else None)

    def _told(self, presence: Element) -> Outcome | None:
        match muc.parse_presence(presence, self._me):
            case Refused() as refused:
                return Outcome("impossible", text=refused.text)
            case Left(is_self=True, why="room-closed"):
                return Outcome("admitted")
            case Left(is_self=True):
                return Outcome("refused")
        return None
