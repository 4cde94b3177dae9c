"""At the room's door: a password that is dialled, or a lobby where a moderator lets callers in.

The call has been answered by then, so that the caller reads, hears and dials; in the room he is not yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from xml.etree.ElementTree import Element

import structlog

from sipmediadeploy.gateway.conference.jitsi.lobby import Lobby
from sipmediadeploy.gateway.conference.jitsi.muc import Refused, Self
from sipmediadeploy.gateway.conference.prompts import Prompt, say
from sipmediadeploy.gateway.conference.stay import VisitOver
from sipmediadeploy.gateway.media.api import MediaWorker

log = structlog.get_logger(__name__)

DIAL_S = 60.0
"""How long a caller may take to dial the password."""
WAIT_S = 900.0
"""How long a caller waits in the lobby."""
GOODBYE_S = 4.0
"""How long a caller who is refused reads and hears why, before the BYE."""
MAX_TRIES = 3
MAX_DIGITS = 32

ASKED = ("This room has a password.", "Dial it, then press #")
WRONG = ("That was not the password.", "Dial it again, then press #")
LOBBY = ("A moderator must let you in.", "Please wait …")
REFUSED = ("You were not let in.",)

Knock = Callable[[str | None], Awaitable[Refused | None]]
"""Tries to enter with a password; why not, or None: inside."""


class Key:
    """The password that opened the room; kept for the whole call, so that coming back needs no dialling."""

    def __init__(self) -> None:
        self.password: str | None = None


class Door:
    """One caller at the door of one room."""

    def __init__(
        self, room: str, me: Self, worker: MediaWorker, send: Callable[[Element], None], key: Key
    ) -> None:
        """``room`` is its name as the caller knows it; ``send`` sends a stanza, and raises when it can't."""
        self._room = room
        self._me = me
        self._worker = worker
        self._send = send
        self._key = key
        self._digits: asyncio.Queue[str] = asyncio.Queue(maxsize=4 * MAX_DIGITS)
        self._lobby: Lobby | None = None
        self._changed = asyncio.Event()

    def digit(self, digit: str) -> None:
        """The caller pressed one."""
        if not self._digits.full():
            self._digits.put_nowait(digit)

    def hear(self, stanza: Element) -> None:
        """A presence or message that is not about the room itself."""
        if self._lobby is not None and self._lobby.hear(stanza):
            self._changed.set()

    async def pass_through(self, why: Refused, knock: Knock) -> None:
        """Return when the caller is in the room.

        Raises:
            VisitOver: he gave up, was refused, or may not enter at all.
            MediaError, XmppLost: as the worker and ``send`` do.
        """
        tries = 0
        refused: Refused | None = why
        while refused is not None:
            if refused.kind == "password":
                if tries >= MAX_TRIES:
                    await self._goodbye("wrong-password", WRONG[:1])
                await self._show(WRONG if tries else ASKED)
                await say(self._worker, Prompt.DIAL_AGAIN if tries else Prompt.DIAL)
                self._key.password = await self._dialled()
                tries += 1
                refused = await knock(self._key.password)
            elif refused.kind == "lobby" and refused.lobby:
                await self._wait(refused.lobby)
                refused = await knock(self._key.password)
            else:
                log.info("room refused at the door", why=refused.text)
                await self._goodbye("room-refused", (refused.text,))
        await say(self._worker, Prompt.ADMITTED)

    async def _dialled(self) -> str:
        """The digits up to ``#``; ``*`` begins anew."""
        text = ""
        try:
            async with asyncio.timeout(DIAL_S):
                while (digit := await self._digits.get()) != "#" or not text:
                    text = "" if digit in "*#" else (text + digit)[:MAX_DIGITS]
        except TimeoutError:
            raise VisitOver("no-password") from None
        return text

    async def _wait(self, jid: str) -> None:
        """In the lobby, until somebody decides."""
        lobby = self._lobby = Lobby(self._me, jid)
        log.info("waiting in the lobby", lobby=jid)
        self._send(lobby.presence())
        await self._show(LOBBY)
        await say(self._worker, Prompt.LOBBY)
        try:
            async with asyncio.timeout(WAIT_S):
                while lobby.outcome is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            await self._goodbye("lobby-timeout", REFUSED)
        finally:
            self._lobby = None
        outcome = lobby.outcome
        assert outcome is not None
        log.info("lobby has ended", outcome=outcome.kind, why=outcome.text)
        if outcome.kind != "admitted":
            await self._goodbye("refused", REFUSED)
        self._send(lobby.leave())
        self._key.password = outcome.password or self._key.password

    async def _goodbye(self, reason: str, lines: tuple[str, ...]) -> None:
        await self._show(lines)
        await say(self._worker, Prompt.REFUSED)
        await asyncio.sleep(GOODBYE_S)
        raise VisitOver(reason)

    async def _show(self, lines: tuple[str, ...]) -> None:
        await self._worker.describe(self._room, lines)
