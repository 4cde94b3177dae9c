"""One visit to a room: one Janus session with a publisher handle and one multistream subscriber handle.

All negotiation is done by the one task that runs :meth:`Visit.run`; events only change facts and wake it up.
So publishers who come and go quickly change what is wanted next, and never race with what is under way.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time

import structlog

from sipmediadeploy.gateway.conference import janus_room, speaker
from sipmediadeploy.gateway.conference.base import ALONE, Participant
from sipmediadeploy.gateway.conference.janus_api import (
    Event,
    JanusConnection,
    JanusError,
    JanusLost,
    refusal,
)
from sipmediadeploy.gateway.conference.janus_room import Json, Publisher, Source
from sipmediadeploy.gateway.conference.stay import VisitLost, VisitOver
from sipmediadeploy.gateway.media.api import IceServers, MediaError, MediaWorker

log = structlog.get_logger(__name__)

PLUGIN = "janus.plugin.videoroom"
NO_SUCH_ROOM, ROOM_EXISTS, NO_SUCH_FEED = 426, 427, 428
CONNECT_S = 10.0
"""How long a peer connection may take until Janus says ``webrtcup``."""
RECOVER_S = 3.0
"""How long a peer connection may be ``disconnected`` before it is made anew."""
UPLINK_LOOK_S = 0.3
UPLINK_PACKETS = 5
"""So many audio packets from the terminal between two looks, and none at Janus: the way is broken."""
RETRY_S = 0.5
RETRIES = 20
VIDEO_KBPS = 2000


class Visit:
    """A participant's stay as long as one connection to Janus lasts."""

    def __init__(
        self,
        url: str,
        who: Participant,
        worker: MediaWorker,
        ice: IceServers,
        own: set[str],
        number: int,
    ) -> None:
        """``own``: the feed ids of this and earlier visits, which are never subscribed to."""
        self._url = url
        self._who = who
        self._worker = worker
        self._ice = ice
        self._own = own
        self._send_peer = f"send-{number}"
        self._receive_peer = f"receive-{number}"
        self._open_peers: list[str] = []
        self._janus: JanusConnection | None = None
        self._publisher = 0
        self._subscriber = 0
        self._connecting: dict[int, float] = {}
        self._unheard = False
        self._uplink_packets: int | None = None
        self._look_at = 0.0
        self._publishers: dict[str, Publisher] = {}
        self._floor = speaker.Floor()
        self._lines: tuple[janus_room.Line, ...] = ()
        self._offer: Json | None = None
        self._picture: tuple[str, str] | None = None
        self._named: tuple[str, ...] | None = None
        self._over: str | None = None
        self._failed: str | None = None
        self._retries = 0
        self._wake = asyncio.Event()
        self._watchdogs: dict[str, asyncio.TimerHandle] = {}

    async def enter(self) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.stay.AnyVisit.enter`."""
        try:
            await self._enter()
        except JanusError as e:
            raise refusal(e) from e
        except JanusLost as e:
            raise VisitLost(str(e)) from e

    async def _enter(self) -> None:
        """Connect, join the room (made when it is not there) and publish."""
        self._janus = await JanusConnection.open(self._url, self._on_event)
        self._janus.lost.add_done_callback(lambda _: self._wake.set())
        self._publisher = await self._janus.attach(PLUGIN)
        try:
            await self._join()
        except JanusError as e:
            if e.code != NO_SUCH_ROOM:
                raise
            await self._create_room()
            await self._join()
        if self._who.audio or self._who.video:
            await self._publish()

    async def run(self) -> None:
        """Keep the subscription as it is wanted; see :meth:`~.stay.AnyVisit.run`."""
        try:
            await self._run()
        except (JanusError, JanusLost, MediaError) as e:
            raise VisitLost(str(e)) from e

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            self._check()
            await self._describe()
            wait = min(await self._step(), await self._watch_uplink())
            try:
                async with asyncio.timeout(None if wait == math.inf else wait):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def close(self) -> None:
        """Leave the room and close the peer connections. Never raises."""
        for watchdog in self._watchdogs.values():
            watchdog.cancel()
        if self._janus is not None:
            await self._janus.close()
        for peer in self._open_peers:
            try:
                await self._worker.close_peer(peer)
            except MediaError as e:
                log.debug("peer not closed", peer=peer, error=str(e))
        self._open_peers.clear()

    @property
    def alone(self) -> bool:
        """Nobody else sends; see :attr:`~sipmediadeploy.gateway.conference.stay.AnyVisit.alone`."""
        return not self._publishers

    def channel(self, peer: str, text: str | None) -> None:
        """Janus has no use for data channels."""

    def digit(self, digit: str) -> None:
        """Janus has no use for digits."""

    def peer_state(self, peer: str, state: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.peer_state`."""
        if peer not in self._open_peers:
            return
        if (watchdog := self._watchdogs.pop(peer, None)) is not None:
            watchdog.cancel()
        if state == "failed":
            self._fail(f"peer connection {peer} failed")
        elif state == "disconnected":
            loop = asyncio.get_running_loop()
            self._watchdogs[peer] = loop.call_later(
                RECOVER_S, self._fail, f"peer connection {peer} was disconnected for {RECOVER_S:g} s"
            )

    def _fail(self, reason: str) -> None:
        self._failed = self._failed or reason
        self._wake.set()

    def _check(self) -> None:
        if self._over is not None:
            raise VisitOver(self._over)
        if self._failed is not None:
            raise JanusLost(self._failed)
        if self._connection.lost.done():
            raise JanusLost(self._connection.lost.result())

    @property
    def _connection(self) -> JanusConnection:
        if self._janus is None:
            raise JanusLost("not connected")
        return self._janus

    async def _join(self) -> None:
        feed = f"smd-{secrets.token_hex(8)}"
        self._own.add(feed)
        await self._connection.request(
            self._publisher,
            {
                "request": "join",
                "ptype": "publisher",
                "room": self._who.room,
                "id": feed,
                "display": self._who.display_name,
            },
        )

    async def _create_room(self) -> None:
        try:
            await self._connection.request(
                self._publisher, janus_room.create_body(self._who.room, VIDEO_KBPS)
            )
        except JanusError as e:
            if e.code != ROOM_EXISTS:
                raise

    async def _publish(self) -> None:
        self._open_peers.append(self._send_peer)
        await self._worker.create_peer(self._send_peer, self._ice, send=True)
        offer = _usable(await self._worker.offer(self._send_peer))
        self._connecting[self._publisher] = time.monotonic() + CONNECT_S
        reply = await self._connection.request(
            self._publisher, {"request": "publish"}, {"type": "offer", "sdp": offer}
        )
        if reply.jsep is None:
            raise JanusLost("Janus did not answer the offer")
        await self._worker.set_answer(self._send_peer, str(reply.jsep["sdp"]))

    def _on_event(self, event: Event) -> None:
        self._wake.set()
        if event.kind in ("hangup", "detached"):
            if event.handle in (self._publisher, self._subscriber):
                self._failed = self._failed or f"{event.kind}: {event.data.get('reason', 'no reason given')}"
        elif event.kind == "webrtcup":
            self._connecting.pop(event.handle, None)
        elif event.kind == "media" and event.handle == self._publisher:
            if event.data.get("type") == "audio":
                self._unheard = event.data.get("receiving") is False
                self._uplink_packets, self._look_at = None, 0.0
        elif event.kind == "event" and event.handle == self._publisher:
            self._on_room(event.data)
        elif event.kind == "event":
            if event.data.get("streams"):
                self._lines = janus_room.lines_of(event.data)
            if event.jsep is not None and event.jsep.get("type") == "offer":
                self._offer = event.jsep

    def _on_room(self, data: Json) -> None:
        if data.get("videoroom") == "destroyed":
            self._over = self._over or "room-closed"
            return
        for publisher in janus_room.publishers_of(data):
            if publisher.feed not in self._own:
                self._publishers[publisher.feed] = publisher
        for who, speaking in janus_room.speaking_of(data).items():
            self._floor = speaker.heard(self._floor, who, speaking, time.monotonic())
        gone = janus_room.gone_of(data)
        if gone == "ok" and data.get("reason") == "kicked":
            self._over = self._over or "kicked"
        elif gone is not None and gone != "ok":
            self._publishers.pop(gone, None)
            self._floor = speaker.heard(self._floor, gone, False, time.monotonic())
            self._lines = janus_room.without(self._lines, gone)

    def _wanted(self) -> tuple[list[Source], float | None]:
        audio = [s for p in self._publishers.values() if (s := p.source("audio", "opus")) is not None]
        if not self._who.video:
            return audio, None
        pictures = {p.feed: s for p in self._publishers.values() if (s := p.source("video", "h264"))}
        before = self._floor.shown
        self._floor, wait = speaker.choose(self._floor, list(pictures), time.monotonic())
        if self._floor.shown is None:
            return audio, wait
        if self._floor.shown != before:
            shown = self._publishers[self._floor.shown]
            log.info("picture follows", room=self._who.room, participant=shown.display)
        return [*audio, pictures[self._floor.shown]], wait

    async def _step(self) -> float:
        """Do the next thing, if any; in how many seconds to look again (inf: when something happens)."""
        if self._offer is not None:
            await self._answer_offer()
            return 0
        late = min(self._connecting.values(), default=math.inf) - time.monotonic()
        if late <= 0:
            raise JanusLost(f"no peer connection to Janus in {CONNECT_S:g} s")
        if self._subscriber in self._connecting:
            return late
        wanted, wait = self._wanted()
        step = janus_room.next_step(self._lines, wanted)
        if step is None:
            self._retries = 0
            return min(late, math.inf if wait is None else wait)
        try:
            await self._take(step)
        except JanusError as e:
            # The publisher has just gone; the event that says so is on its way.
            self._retries += 1
            if e.code != NO_SUCH_FEED or self._retries > RETRIES:
                raise
            return RETRY_S
        return 0

    async def _describe(self) -> None:
        """Have the worker draw who is here, for while nobody sends video."""
        names = tuple(publisher.display for publisher in self._publishers.values())
        if self._who.video and names != self._named:
            self._named = names
            await self._worker.describe(self._who.room, names or (ALONE,))

    async def _watch_uplink(self) -> float:
        """Notice in 1.3 to 2.3 s that our way to Janus is broken (a TURN server died); ICE needs up to 30 s.

        Janus tells when it hears nothing for a second. That is an outage if the terminal sends meanwhile.
        """
        now = time.monotonic()
        if not self._unheard:
            return math.inf
        if now >= self._look_at:
            before, self._uplink_packets = self._uplink_packets, (await self._worker.stats()).audio_in.packets
            if before is not None and self._uplink_packets - before >= UPLINK_PACKETS:
                raise JanusLost("Janus gets nothing of what the terminal sends")
            self._look_at = now + UPLINK_LOOK_S
        return self._look_at - now

    async def _take(self, step: janus_room.Update | janus_room.Switch) -> None:
        if not self._subscriber:
            self._subscriber = await self._connection.attach(PLUGIN)
            self._open_peers.append(self._receive_peer)
            await self._worker.create_peer(self._receive_peer, self._ice, send=False)
        if not self._lines and isinstance(step, janus_room.Update):
            self._connecting[self._subscriber] = time.monotonic() + CONNECT_S
            streams = [{"feed": s.feed, "mid": s.mid} for s in step.subscribe]
            join = {"request": "join", "ptype": "subscriber", "room": self._who.room}
            # Without autoupdate a publisher who leaves costs no negotiation: his m-lines just fall silent.
            await self._connection.request(
                self._subscriber, {**join, "streams": streams, "autoupdate": False, "use_msid": False}
            )
            return
        if isinstance(step, janus_room.Switch):
            await self._worker.video_switched()
        await self._connection.request(self._subscriber, step.body())
        if isinstance(step, janus_room.Switch):
            await self._show_picture()

    async def _answer_offer(self) -> None:
        offer, self._offer = self._offer, None
        if offer is None:
            return
        answer = _usable(await self._worker.answer(self._receive_peer, str(offer["sdp"])))
        await self._connection.request(
            self._subscriber, {"request": "start"}, {"type": "answer", "sdp": answer}
        )
        await self._show_picture()

    async def _show_picture(self) -> None:
        picture = next((x.source for x in self._lines if x.medium == "video" and x.source), None)
        if picture is not None and picture != self._picture:
            await self._worker.video_switched()
        self._picture = picture


def _usable(sdp: str) -> str:
    """The same SDP; raises JanusLost when it has no way to be reached: only relaying, and no relay."""
    if "a=candidate:" not in sdp:
        raise JanusLost("no ICE candidate was found: the TURN server does not answer")
    return sdp
