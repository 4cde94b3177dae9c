"""One visit to a room: one XMPP session, one occupant, and the media sessions that the focus makes with it.

All negotiation is done by the one task that runs :meth:`Visit.run`; stanzas only change facts and wake it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import structlog

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, Participant, RoomRefused
from sipmediadeploy.gateway.conference.ice import with_services
from sipmediadeploy.gateway.conference.jitsi import bridge, jingle, jingle_sdp, muc
from sipmediadeploy.gateway.conference.jitsi.conference_request import Request, request_conference
from sipmediadeploy.gateway.conference.jitsi.deployment import Deployment
from sipmediadeploy.gateway.conference.jitsi.door import Door, Key
from sipmediadeploy.gateway.conference.jitsi.inbox import Inbox
from sipmediadeploy.gateway.conference.jitsi.jingle_sdp import Choices
from sipmediadeploy.gateway.conference.jitsi.media_session import MediaSession, Medium
from sipmediadeploy.gateway.conference.jitsi.muc import Refused, Self
from sipmediadeploy.gateway.conference.jitsi.room import Room
from sipmediadeploy.gateway.conference.jitsi.services import turn_services
from sipmediadeploy.gateway.conference.jitsi.stream import Login, LoginRefused, XmppLost
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection, XmppError
from sipmediadeploy.gateway.conference.stay import VisitLost, VisitOver
from sipmediadeploy.gateway.media.api import IceServers, MediaError, MediaWorker

log = structlog.get_logger(__name__)

JOIN_S = 8.0
"""How long the room may take to answer our presence."""
JOIN_TRIES = 3
"""The focus may just have left an empty room: it is asked again."""
FOCUS_RETURNS_S = 3.0
"""How long the focus is left alone when we return. It may have lost the same XMPP server, and a jicofo that
is asked by HTTP before it has logged in again keeps a conference that it never joins, for good."""
RESTART_S = 10.0
"""How long the focus may take to initiate the session anew that we asked for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every visit of a call needs."""

    who: Participant
    node: str
    """The room's node."""
    worker: MediaWorker
    deployment: Deployment
    tls: ssl.SSLContext
    ice: IceServers
    turn: bool
    """The platform's own TURN servers may be used."""
    machine: str
    choices: Choices
    key: Key
    token: Callable[[], str] | None = None
    max_height: int = 720


class Visit:
    """An :class:`~sipmediadeploy.gateway.conference.stay.AnyVisit` of a Jitsi room."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._number = number
        self._address = f"{plan.node}@{plan.deployment.muc}"
        self._joined: Room | None = None
        self._connection: XmppConnection | None = None
        self._media: MediaSession | None = None
        self._sessions = 0
        self._inbox: Inbox | None = None
        self._refused: Refused | None = None
        self._card: tuple[str, tuple[str, ...]] | None = None
        self._restart_by: float | None = None
        self._wake = asyncio.Event()

    # Getting in

    async def enter(self) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.stay.AnyVisit.enter`."""
        plan, deployment = self._plan, self._plan.deployment
        login = Login(deployment.websocket, deployment.domain, plan.node, plan.tls, plan.token)
        try:
            self._connection = connection = await XmppConnection.open(login, self._on_stanza)
            connection.lost.add_done_callback(lambda _: self._wake.set())
            if self._number > 1 and deployment.request_url:
                await asyncio.sleep(FOCUS_RETURNS_S)
            me = Self(
                room=self._address,
                endpoint=muc.endpoint_id(connection.jid, secrets.token_hex(4)),
                name=plan.who.display_name,
                audio_muted=not plan.who.audio,
                video_muted=not plan.who.video,
                codecs=tuple(codec.lower() for codec in plan.choices.video_codecs),
                tcc=plan.choices.tcc,
                sctp=plan.choices.data,
            )
            self._joined = Room(me)
            self._inbox = Inbox(self._joined, connection, self._wake.set)
            for left in reversed(range(JOIN_TRIES)):
                refused = await self._enter_room(connection)
                if refused is None:
                    return
                if refused.at_door:
                    self._refused = refused
                    self._inbox.door = Door(plan.who.room, me, plan.worker, connection.send, plan.key)
                    return
                if refused.kind != "not-there" or left == 0:
                    raise refused.error()
                await asyncio.sleep(0.5)
        except LoginRefused as e:
            raise RoomRefused(f"login refused: {e}", 403) from e
        except XmppLost as e:
            raise VisitLost(str(e)) from e

    async def _enter_room(self, connection: XmppConnection) -> Refused | None:
        """None: we are inside."""
        plan = self._plan
        request = Request(self._address, plan.machine, plan.token() if plan.token is not None else None)
        answer = await request_conference(request, plan.deployment, connection, plan.tls)
        self._room.focus_jid = answer.focus or plan.deployment.focus_user
        return await self._knock(plan.key.password)

    async def _knock(self, password: str | None) -> Refused | None:
        """Ask the room to let us in; why not, or None: inside."""
        room, connection = self._room, self._xmpp
        room.refused = None
        connection.send(muc.presence(room.me, join=True, password=password))
        try:
            async with asyncio.timeout(JOIN_S):
                while not room.inside and room.refused is None and not connection.lost.done():
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            raise ConferenceUnavailable(f"{self._address} did not answer within {JOIN_S:g} s") from None
        refused: Refused | None = room.refused  # changed by a callback meanwhile
        if refused is None:
            self._check()
            log.info("in the room", room=self._address, endpoint=room.me.endpoint, members=len(room.members))
        return refused

    @property
    def _room(self) -> Room:
        if self._joined is None:
            raise VisitLost("not connected")
        return self._joined

    @property
    def _xmpp(self) -> XmppConnection:
        if self._connection is None:
            raise VisitLost("not connected")
        return self._connection

    # Staying

    @property
    def alone(self) -> bool:
        """See :attr:`~sipmediadeploy.gateway.conference.stay.AnyVisit.alone`."""
        return self._joined is not None and self._joined.inside and not self._joined.others()

    async def run(self) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.stay.AnyVisit.run`."""
        inbox = self._inbox
        if inbox is None:
            raise VisitLost("not connected")
        if inbox.door is not None and self._refused is not None:
            await self._pass_through(inbox.door, self._refused)
            inbox.door = None
        while True:
            self._wake.clear()
            self._check()
            while inbox.sessions:
                await self._take(inbox.sessions.popleft())
            await self._mend()
            await self._describe()
            if self._media is not None:
                self._media.want(self._wanted(), self._room.shows_video())
                me = self._room.me
                await self._media.tell(audio_muted=me.audio_muted, video_muted=me.video_muted)
            wait = None if self._restart_by is None else self._restart_by - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _pass_through(self, door: Door, refused: Refused) -> None:
        """Wait at the door; a lost connection ends that, too."""
        passing = asyncio.ensure_future(door.pass_through(refused, self._knock))
        lost = self._xmpp.lost
        try:
            await asyncio.wait((passing, lost), return_when=asyncio.FIRST_COMPLETED)
            if passing.done():
                passing.result()
            else:
                raise VisitLost(lost.result())
        except XmppLost as e:
            raise VisitLost(str(e)) from e
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)

    async def close(self) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.stay.AnyVisit.close`."""
        media, self._media = self._media, None
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._joined is not None and self._joined.inside:
                with contextlib.suppress(XmppLost):
                    connection.send(muc.leave(self._joined.me))
            await connection.close()
        if media is not None:
            await media.close()

    def peer_state(self, peer: str, state: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.peer_state`."""
        if self._media is not None:
            self._media.peer_state(peer, state)

    def _on_stanza(self, stanza: Element) -> None:
        if self._inbox is not None:  # before that nobody in the room knows of us
            self._inbox.take(stanza)

    def channel(self, peer: str, text: str | None) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.channel`."""
        if self._media is not None:
            self._media.channel_event(peer, text)

    def digit(self, digit: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.digit`."""
        if self._inbox is not None and self._inbox.door is not None:
            self._inbox.door.digit(digit)

    def _check(self) -> None:
        if self._room.over is not None:
            raise VisitOver(self._room.over)
        if self._xmpp.lost.done():
            raise VisitLost(self._xmpp.lost.result())
        if self._room.lost is not None:
            raise VisitLost(self._room.lost)
        if self._restart_by is not None and time.monotonic() > self._restart_by:
            raise VisitLost(f"the focus made no new session in {RESTART_S:g} s")

    def _wanted(self) -> bridge.Wanted:
        screens = muc.screen_shares(self._room.members.values())
        return bridge.wanted_of(self._plan.who.video, self._plan.max_height, screens)

    async def _describe(self) -> None:
        """What the terminal sees while nobody sends video: the room and who is in it."""
        card = (self._plan.who.room, self._room.others())
        if self._plan.who.video and card != self._card:
            self._card = card
            try:
                await self._plan.worker.describe(*card)
            except MediaError as e:
                raise VisitLost(str(e)) from e

    async def _take(self, session: jingle.Session) -> None:
        match session.action:
            case "session-initiate" | "transport-replace":
                await self._close_media()
                self._restart_by = None
                self._sessions += 1
                medium = Medium(
                    worker=self._plan.worker,
                    ice=await self._ice(),
                    connection=self._xmpp,
                    tls=self._plan.tls,
                    endpoint=self._room.me.endpoint,
                    video=self._plan.who.video,
                    choices=self._plan.choices,
                    wake=self._wake.set,
                )
                peer = f"jitsi-{self._number}-{self._sessions}"
                self._media = MediaSession(medium, session, peer, self._room.focus, self._wanted())
                await self._media.start()
                log.info("session accepted", room=self._address, sid=session.sid, action=session.action)
            case "session-terminate" if self._media is not None and self._media.sid == session.sid:
                log.info("session ended by the focus", room=self._address, reason=session.reason)
                await self._close_media()

    async def _ice(self) -> IceServers:
        plan = self._plan
        if not plan.turn:
            return plan.ice
        return with_services(plan.ice, await turn_services(self._xmpp, plan.deployment.domain))

    async def _mend(self) -> None:
        """A session that failed is ended; the focus is asked for a new one."""
        media = self._media
        if media is None or media.failed is None:
            return
        log.warning("session failed, asking for a new one", room=self._address, why=media.failed)
        terminate = jingle_sdp.session_terminate(
            media.sid, "connectivity-error", bridge_session=media.bridge_session, restart=True
        )
        await self._close_media()
        self._restart_by = time.monotonic() + RESTART_S
        try:
            await self._xmpp.iq("set", self._room.focus, terminate)
        except (XmppError, XmppLost) as e:
            raise VisitLost(f"the focus makes no new session: {e}") from e

    async def _close_media(self) -> None:
        media, self._media = self._media, None
        if media is not None:
            await media.close()
