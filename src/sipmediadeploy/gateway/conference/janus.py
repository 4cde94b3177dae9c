"""The Janus driver: rooms of a Janus videoroom, joined over WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from urllib.parse import quote

import structlog

from sipmediadeploy.gateway.conference.base import (
    ConferenceUnavailable,
    Participant,
    RoomRefused,
    SessionEnded,
)
from sipmediadeploy.gateway.conference.janus_api import JanusError, JanusLost
from sipmediadeploy.gateway.conference.janus_visit import Visit, VisitOver
from sipmediadeploy.gateway.media.api import IceServers, MediaError, MediaWorker
from sipmediadeploy.protocol.replica import ConferenceAccess
from sipmediadeploy.protocol.secrets import turn_credentials

log = structlog.get_logger(__name__)

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
GIVE_UP_S = 45.0
"""How long a lost conference is tried for again before the call ends."""
STABLE_S = 20.0
"""A visit that lasted so long was a good one: the next loss is a new outage."""

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


def ice_servers(access: ConferenceAccess, gateway: str, now: float | None = None) -> IceServers:
    """The ICE configuration of one visit, with TURN credentials of its own.

    Raises:
        ConferenceUnavailable: TURN is demanded and there is no server.
    """
    server = access.turn_server
    if access.turn == "never":
        return IceServers()
    if server is None:
        if access.turn == "always":
            raise ConferenceUnavailable("turn is 'always' and no TURN server is known")
        return IceServers()
    user, password = turn_credentials(server.secret, gateway, now=now)
    return IceServers(
        turn_uri=f"turn://{quote(user, safe='')}:{quote(password, safe='')}"
        f"@{server.address}:{server.port}?transport=udp",
        relay_only=access.turn == "always",
    )


def refusal(error: JanusError) -> RoomRefused | ConferenceUnavailable:
    """What a Janus error means for a caller."""
    match error.code:
        case 403 | 433:
            return RoomRefused(str(error), 403)
        case 429 if "(pin)" in str(error):
            return RoomRefused(f"the room wants a PIN: {error}", 403)
        case 432:
            return RoomRefused(f"the room is full: {error}", 486)
        case 430:
            return ConferenceUnavailable(f"{error}; the videoroom plugin needs string_ids = true")
        case _:
            return ConferenceUnavailable(str(error))


class JanusSession:
    """A participant's stay in a room, over as many visits as it takes."""

    def __init__(
        self,
        access: ConferenceAccess,
        gateway: str,
        who: Participant,
        worker: MediaWorker,
        ended: SessionEnded,
    ) -> None:
        self._access = access
        self._gateway = gateway
        self._who = who
        self._worker = worker
        self._ended = ended
        self._own: set[str] = set()
        self._visits = 0
        self._visit: Visit | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first visit; later ones are made as needed.

        Raises:
            JanusError, JanusLost, MediaError, ConferenceUnavailable: nothing is left behind.
        """
        await self._enter()
        self._task = asyncio.create_task(self._stay(), name=f"janus-{self._who.room}")

    async def leave(self) -> None:
        """Leave the room. Safe to call twice; never raises."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._close_visit()

    def peer_state(self, peer: str, state: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.peer_state`."""
        if self._visit is not None:
            self._visit.peer_state(peer, state)

    async def _enter(self) -> None:
        self._visits += 1
        ice = ice_servers(self._access, self._gateway)
        self._visit = Visit(self._who, self._worker, ice, self._own, self._visits)
        try:
            await self._visit.enter(self._access.url)
        except BaseException:
            await self._close_visit()
            raise

    async def _close_visit(self) -> None:
        visit, self._visit = self._visit, None
        if visit is not None:
            await visit.close()

    async def _stay(self) -> None:
        reason = "conference-lost"
        try:
            await self._visit_again_and_again()
        except VisitOver as e:
            reason = str(e)
        except Exception:
            log.exception("conference driver failed", room=self._who.room)
        await self._close_visit()
        log.info("conference ended", room=self._who.room, reason=reason)
        self._ended(reason)

    async def _visit_again_and_again(self) -> None:
        """Return when the conference has been away for too long."""
        failures = 0
        lost_at = 0.0
        while True:
            entered_at = time.monotonic()
            try:
                if self._visit is None:
                    await self._enter()
                    log.info("conference rejoined", room=self._who.room, visit=self._visits)
                if self._visit is not None:
                    await self._visit.run()
            except (JanusError, JanusLost, MediaError, ConferenceUnavailable) as e:
                log.warning("conference lost", room=self._who.room, error=str(e))
            await self._close_visit()
            now = time.monotonic()
            if failures == 0 or now - entered_at > STABLE_S:
                failures, lost_at = 0, now
            if now - lost_at > GIVE_UP_S:
                return
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1


class JanusDriver:
    """Joins rooms of the Janus server at ``access.url``."""

    def __init__(self, access: ConferenceAccess, gateway: str) -> None:
        self._access = access
        self._gateway = gateway

    async def join(self, who: Participant, worker: MediaWorker, ended: SessionEnded) -> JanusSession:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Driver.join`."""
        display_name = _CONTROLS.sub(" ", who.display_name).strip()[:64] or "SIP"
        guest = Participant(room_id(who.room), display_name, who.audio, who.video)
        session = JanusSession(self._access, self._gateway, guest, worker, ended)
        try:
            await session.start()
        except JanusError as e:
            raise refusal(e) from e
        except JanusLost as e:
            raise ConferenceUnavailable(str(e)) from e
        return session

    async def close(self) -> None:
        """Nothing is shared between sessions: each has a connection of its own."""
