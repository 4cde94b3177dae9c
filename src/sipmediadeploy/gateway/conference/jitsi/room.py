"""What is known of the room that we are in, from the presence heard there."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.jitsi import muc
from sipmediadeploy.gateway.conference.jitsi.muc import Left, Member, Refused, Self

FOCUS_NICK = "focus"
MAX_MEMBERS = 2000
MAX_NAMES = 12
UNNAMED = "Fellow Jitster"


class Room:
    """Who is in it, whether we are, and how it ended."""

    def __init__(self, me: Self) -> None:
        self.me = me
        self.focus_jid: str | None = None
        """The JID that the focus has, where it is known."""
        self.members: dict[str, Member] = {}
        """By endpoint id, longest present first."""
        self.inside = False
        self.refused: Refused | None = None
        self.over: str | None = None
        """The reason's name, when the platform has ended our stay for good."""
        self.lost: str | None = None
        """Why we must come again."""

    @property
    def focus(self) -> str:
        """The focus's JID in the room."""
        return f"{self.me.room}/{FOCUS_NICK}"

    def _others(self) -> list[Member]:
        return [m for m in self.members.values() if not m.is_self and m.endpoint != FOCUS_NICK]

    def others(self) -> tuple[str, ...]:
        """The names of the others, as Jitsi writes them."""
        return tuple(m.name or UNNAMED for m in self._others())[:MAX_NAMES]

    def shows_video(self) -> bool:
        """Somebody else has a camera or a screen on."""
        return any(s.video_type is not None and not s.muted for m in self._others() for s in m.sources)

    def hear(self, presence: Element) -> bool:
        """Take a presence stanza; False: it does not concern the room."""
        told = muc.parse_presence(presence, self.me)
        match told:
            case Refused():
                self.refused = told
            case Left():
                self._left(told)
            case Member(endpoint=endpoint):
                if endpoint in self.members or len(self.members) < MAX_MEMBERS:
                    self.members[endpoint] = told
                self.inside = self.inside or told.is_self
        return told is not None

    def _left(self, left: Left) -> None:
        self.members.pop(left.endpoint, None)
        if not self.inside:
            return
        if left.is_self:
            self.inside = False
            if left.why == "left":
                self.lost = self.lost or "the room has put us out"
            else:
                self.over = self.over or left.why
        elif left.endpoint == FOCUS_NICK:
            self.lost = self.lost or "the focus has left"

    def is_focus(self, sender: str | None) -> bool:
        """It is the occupant ``focus``, and, where the room shows it, has the focus's own JID."""
        if sender != self.focus:
            return False
        member = self.members.get(FOCUS_NICK)
        if member is None or member.jid is None or self.focus_jid is None:
            return True
        return member.jid.split("/")[0] == self.focus_jid.split("/")[0]
