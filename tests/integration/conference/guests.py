"""SIP callers in a Janus room: a synthetic terminal, a real media worker and the driver."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sipmediadeploy.gateway.conference.base import Participant
from sipmediadeploy.gateway.conference.janus import JanusDriver
from sipmediadeploy.gateway.conference.stay import Stay
from sipmediadeploy.gateway.media.api import WorkerEvents
from sipmediadeploy.gateway.media.process import WorkerProcess
from sipmediadeploy.protocol.replica import ConferenceAccess
from tests.integration.media_terminal import Colour, Terminal

ROOM = "demo"


@dataclass
class Guest:
    """One call: what its terminal gets is in ``terminal``."""

    terminal: Terminal
    worker: WorkerProcess
    ended: list[str] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    heard: list[tuple[str, str | None]] = field(default_factory=list)
    """What came over data channels."""
    session: Stay | None = None
    keyframes_wanted: int = 0
    """Key frames asked for by SIP."""

    def on_keyframe_wanted(self) -> None:
        """A call would send an INFO."""
        self.keyframes_wanted += 1

    def on_connection(self, peer: str, state: str) -> None:
        """As a call does: note it and hand it on."""
        self.states.append((peer, state))
        if self.session is not None:
            self.session.peer_state(peer, state)

    def on_channel(self, peer: str, text: str | None) -> None:
        """As a call does; and noted, for those who are no call."""
        self.heard.append((peer, text))
        if self.session is not None:
            self.session.channel(peer, text)

    def on_digit(self, digit: str) -> None:
        """As a call does."""
        if self.session is not None:
            self.session.digit(digit)

    @property
    def connected(self) -> set[str]:
        """The peer connections that have been connected."""
        return {peer for peer, state in self.states if state == "connected"}


@contextlib.asynccontextmanager
async def caller(tone: float, colour: Colour | None = None, *, pli: bool = True) -> AsyncIterator[Guest]:
    """A call that has not joined yet; ``pli``: its terminal takes key-frame requests by RTCP."""
    terminal = Terminal(tone, colour, pli=pli)
    worker = await WorkerProcess.spawn()
    made = Guest(terminal, worker)
    worker.attach(
        WorkerEvents(
            exited=lambda _: None,
            keyframe_wanted=made.on_keyframe_wanted,
            rtp_timeout=lambda: None,
            connection=made.on_connection,
            dtmf=made.on_digit,
            channel=made.on_channel,
        )
    )
    try:
        await worker.start_sip(terminal.media(), 30.0)
        terminal.start()
        yield made
    finally:
        if made.session is not None:
            await made.session.leave()
        await worker.close()
        terminal.close()


@contextlib.asynccontextmanager
async def guest(
    url: str,
    name: str,
    tone: float,
    colour: Colour | None = None,
    *,
    room: str = ROOM,
    access: ConferenceAccess | None = None,
    pli: bool = True,
) -> AsyncIterator[Guest]:
    """A call in the room."""
    driver = JanusDriver(
        access or ConferenceAccess(platform="janus", url=url, turn="never"), "test-gateway-0"
    )
    async with caller(tone, colour, pli=pli) as made:
        who = Participant(room, name, video=colour is not None)
        made.session = await driver.join(who, made.worker, made.ended.append)
        yield made
