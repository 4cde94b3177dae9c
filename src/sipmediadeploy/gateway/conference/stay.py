"""A stay in a room, over as many visits as it takes: a lost visit is followed by a new one, with backoff."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, RoomRefused, SessionEnded
from sipmediadeploy.gateway.media.api import MediaError

log = structlog.get_logger(__name__)

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
GIVE_UP_S = 45.0
"""How long a lost conference is tried for again before the call ends."""
ALONE_LOOK_S = 2.0
"""How often it is looked whether somebody else is there."""
STABLE_S = 20.0
"""A visit that lasted so long was a good one: the next loss is a new outage."""


class VisitLost(Exception):
    """The visit can't go on; a new one may."""


class VisitOver(Exception):
    """The platform has ended the stay for good; the text is the reason's name."""


class AnyVisit(Protocol):
    """One visit: as long as one connection to the platform lasts."""

    @property
    def alone(self) -> bool:
        """Nobody else is in the room, as far as the platform tells."""
        ...

    async def enter(self) -> None:
        """Join; raises RoomRefused, ConferenceUnavailable or VisitLost, and :meth:`close` is still called."""
        ...

    async def run(self) -> None:
        """Never returns; raises VisitOver or VisitLost."""
        ...

    async def close(self) -> None:
        """Leave; never raises."""
        ...

    def peer_state(self, peer: str, state: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.peer_state`."""
        ...

    def channel(self, peer: str, text: str | None) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.channel`."""
        ...

    def digit(self, digit: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.digit`."""
        ...


class Relay(Protocol):
    """What media is relayed by."""

    async def moved(self) -> None:
        """Wait until it has moved, and knows nothing of what it relayed."""
        ...


class Stay:
    """A :class:`~sipmediadeploy.gateway.conference.base.Session` made of visits."""

    def __init__(
        self,
        room: str,
        make_visit: Callable[[int], AnyVisit],
        ended: SessionEnded,
        alone_limit_s: float = 0.0,
        relay: Relay | None = None,
    ) -> None:
        """``alone_limit_s``: the stay ends, as ``alone``, after so long with nobody else; 0: never.

        ``relay``: media is relayed, and lost when the relay moves.
        """
        self._relay = relay
        self._room = room
        self._alone_limit_s = alone_limit_s
        self._make_visit = make_visit
        self._ended = ended
        self._visits = 0
        self._visit: AnyVisit | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first visit; later ones are made as needed.

        Raises:
            RoomRefused, ConferenceUnavailable: nothing is left behind.
        """
        try:
            await self._enter()
        except VisitLost as e:
            raise ConferenceUnavailable(str(e)) from e
        self._task = asyncio.create_task(self._stay(), name=f"stay-{self._room}")

    async def leave(self) -> None:
        """Leave the room. Safe to call twice; never raises."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait((task,))
        await self._close_visit()

    def peer_state(self, peer: str, state: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.peer_state`."""
        if self._visit is not None:
            self._visit.peer_state(peer, state)

    def channel(self, peer: str, text: str | None) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.channel`."""
        if self._visit is not None:
            self._visit.channel(peer, text)

    def digit(self, digit: str) -> None:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Session.digit`."""
        if self._visit is not None:
            self._visit.digit(digit)

    async def _enter(self) -> None:
        self._visits += 1
        self._visit = self._make_visit(self._visits)
        try:
            await self._visit.enter()
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
            await self._visit_until_alone()
        except VisitOver as e:
            reason = str(e)
        except RoomRefused as e:
            log.warning("conference refused the return", room=self._room, error=str(e))
        except Exception:
            log.exception("conference driver failed", room=self._room)
        await self._close_visit()
        log.info("conference ended", room=self._room, reason=reason)
        self._ended(reason)

    async def _visit_until_alone(self) -> None:
        tasks = [asyncio.create_task(self._visit_again_and_again(), name=f"visits-{self._room}")]
        if self._alone_limit_s > 0:
            tasks.append(asyncio.create_task(self._be_alone_too_long(), name=f"alone-{self._room}"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _be_alone_too_long(self) -> None:
        """Raises VisitOver when it is so; while the conference is away nobody knows who is there."""
        since, visits = time.monotonic(), self._visits
        while time.monotonic() - since < self._alone_limit_s:
            await asyncio.sleep(ALONE_LOOK_S)
            if self._visit is None or self._visits != visits or not self._visit.alone:
                since, visits = time.monotonic(), self._visits
        raise VisitOver("alone")

    async def _run(self, visit: AnyVisit) -> None:
        if self._relay is None:
            await visit.run()
            return
        running, moved = asyncio.create_task(visit.run()), asyncio.create_task(self._relay.moved())
        try:
            await asyncio.wait((running, moved), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, moved):
                task.cancel()
            await asyncio.gather(running, moved, return_exceptions=True)
        if not running.cancelled():
            running.result()
        raise VisitLost("the TURN server's address has moved, and its allocations are lost")

    async def _visit_again_and_again(self) -> None:
        """Return when the conference has been away for too long."""
        failures = 0
        lost_at = 0.0
        while True:
            entered_at = time.monotonic()
            try:
                if self._visit is None:
                    await self._enter()
                    log.info("conference rejoined", room=self._room, visit=self._visits)
                if self._visit is not None:
                    await self._run(self._visit)
            except (VisitLost, ConferenceUnavailable, MediaError) as e:
                log.warning("conference lost", room=self._room, error=str(e))
            await self._close_visit()
            now = time.monotonic()
            if failures == 0 or now - entered_at > STABLE_S:
                failures, lost_at = 0, now
            if now - lost_at > GIVE_UP_S:
                return
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1
