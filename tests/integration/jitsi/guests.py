"""Guests of a Prosody: one XMPP session each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.jitsi import muc
from sipmediadeploy.gateway.conference.jitsi.muc import Left, Member, Refused, Self
from sipmediadeploy.gateway.conference.jitsi.stanzas import local_name
from sipmediadeploy.gateway.conference.jitsi.stream import Login
from sipmediadeploy.gateway.conference.jitsi.token import signer
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection
from sipmediadeploy.protocol.replica import TokenSigning
from tests.integration.jitsi.prosody_server import DOMAIN, MUC, TOKEN_KEY, ProsodyServer

ROOM = f"demo@{MUC}"


def login(server: ProsodyServer) -> Login:
    """How a guest logs in; where a token is wanted, with one for all rooms."""
    token = signer(TokenSigning(key=TOKEN_KEY, issuer="gateways"), DOMAIN, "*", "Guest")
    return Login(server.websocket, DOMAIN, "demo", token=token if server.authentication == "token" else None)


@dataclass
class Guest:
    """What a session has got."""

    connection: XmppConnection
    me: Self
    stanzas: list[Element] = field(default_factory=list)

    def told(self) -> list[Member | Left | Refused]:
        """What presence told of the room, in order."""
        presences = (s for s in self.stanzas if local_name(s) == "presence")
        return [t for p in presences if (t := muc.parse_presence(p, self.me)) is not None]

    def sees(self, name: str) -> Member | None:
        """The latest presence of the member of that name."""
        return next((t for t in reversed(self.told()) if isinstance(t, Member) and t.name == name), None)

    def join(self) -> None:
        """Send presence."""
        self.connection.send(muc.presence(self.me, join=True))


@contextlib.asynccontextmanager
async def guest(server: ProsodyServer, name: str, endpoint: str) -> AsyncIterator[Guest]:
    """A session that has logged in and is in no room yet."""
    received: list[Element] = []
    connection = await XmppConnection.open(login(server), received.append)
    try:
        yield Guest(connection, Self(ROOM, endpoint, name), received)
    finally:
        await connection.close()
