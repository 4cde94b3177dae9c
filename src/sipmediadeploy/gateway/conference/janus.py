"""The Janus driver: rooms of a Janus videoroom, joined over WebSocket."""

from __future__ import annotations

import re

from sipmediadeploy.gateway.conference.base import (
    Participant,
    RoomRefused,
    SessionEnded,
)
from sipmediadeploy.gateway.conference.ice import ice_servers
from sipmediadeploy.gateway.conference.janus_visit import Visit
from sipmediadeploy.gateway.conference.relay_watch import relay_watch
from sipmediadeploy.gateway.conference.stay import Stay
from sipmediadeploy.gateway.media.api import MediaWorker
from sipmediadeploy.protocol.replica import ConferenceAccess

_ROOM = re.compile(r"[\w.~+=-]{1,64}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


def room_id(room: str) -> str:
    """The Janus room of the room name: lower case, so that ``Demo`` and ``demo`` are one room.

    Raises:
        RoomRefused: no such name is possible (SIP 404).
    """
    if not _ROOM.fullmatch(room):
        raise RoomRefused("a room's name has 1 to 64 letters, digits and . ~ + = _ -", 404)
    return room.lower()


class JanusDriver:
    """Joins rooms of the Janus server at ``access.url``."""

    def __init__(self, access: ConferenceAccess, gateway: str) -> None:
        self._access = access
        self._gateway = gateway
        self._relay = relay_watch(access)

    async def join(self, who: Participant, worker: MediaWorker, ended: SessionEnded) -> Stay:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Driver.join`."""
        display_name = _CONTROLS.sub(" ", who.display_name).strip()[:64] or "SIP"
        guest = Participant(room_id(who.room), display_name, who.audio, who.video)
        own: set[str] = set()

        def visit(number: int) -> Visit:
            ice = ice_servers(self._access, self._gateway)
            return Visit(self._access.url, guest, worker, ice, own, number)

        stay = Stay(guest.room, visit, ended, self._access.alone_limit_s, self._relay)
        await stay.start()
        return stay

    async def close(self) -> None:
        """Only the look-out for the TURN server is shared: each session has a connection of its own."""
        if self._relay is not None:
            await self._relay.close()
