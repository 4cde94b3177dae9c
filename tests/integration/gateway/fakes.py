"""A media worker and a conference at the seams, for the life of calls without media."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sipmediadeploy.gateway.conference.base import Participant, SessionEnded
from sipmediadeploy.gateway.media.api import (
    IceServers,
    MediaError,
    MediaStats,
    MediaWorker,
    SipMedia,
    StreamStats,
    WorkerEvents,
)


@dataclass(eq=False)
class FakeWorker:
    """Keeps what it was told."""

    events: WorkerEvents
    media: list[SipMedia] = field(default_factory=list)
    keyframes: int = 0
    closed: bool = False
    packets: int = 0
    packets_each_time: int = 0
    fails: bool = False
    told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        return 1

    async def start_sip(self, media: SipMedia, rtp_timeout_s: float) -> None:
        if self.fails:
            raise MediaError("a port can't be bound")
        self.media.append(media)
        self.told.set()

    async def started(self, times: int) -> None:
        """Returns when ``start_sip`` has been called so often."""
        while len(self.media) < times:
            self.told.clear()
            await self.told.wait()

    async def create_peer(self, peer: str, ice: IceServers, *, send: bool) -> None: ...

    async def open_channel(self, peer: str, label: str, protocol: str) -> None: ...

    async def send_channel(self, peer: str, text: str) -> None: ...

    async def offer(self, peer: str, *, receive: bool = False) -> str:
        return ""

    async def set_answer(self, peer: str, sdp: str) -> None: ...

    async def answer(self, peer: str, sdp: str) -> str:
        return ""

    async def add_candidate(self, peer: str, mline: int, candidate: str) -> None: ...

    async def send_uplink(self, *, audio: bool, video: bool) -> None: ...

    async def video_switched(self) -> None: ...

    async def show_video(self, ssrc: int | None) -> None: ...

    async def video_arrives(self) -> bool:
        return True

    async def describe(self, title: str, lines: Sequence[str]) -> None: ...

    async def say(self, file: str) -> None: ...

    async def send_keyframe(self) -> None:
        self.keyframes += 1

    async def close_peer(self, peer: str) -> None: ...

    async def stats(self) -> MediaStats:
        self.packets += self.packets_each_time
        return MediaStats(audio_in=StreamStats(packets=self.packets))

    async def close(self) -> None:
        self.closed = True


@dataclass
class FakeWorkers:
    """Makes a worker for each call."""

    workers: list[FakeWorker] = field(default_factory=list)
    empty: bool = False
    worker_fails: bool = False

    async def acquire(self, events: WorkerEvents, limit_s: float = 5.0) -> FakeWorker:
        if self.empty:
            raise MediaError("no media worker became ready")
        self.workers.append(FakeWorker(events, fails=self.worker_fails))
        return self.workers[-1]


@dataclass(eq=False)
class FakeSession:
    """A stay in the room."""

    who: Participant
    ended: SessionEnded
    left: bool = False
    states: list[tuple[str, str]] = field(default_factory=list)
    digits: list[str] = field(default_factory=list)

    def peer_state(self, peer: str, state: str) -> None:
        self.states.append((peer, state))

    def channel(self, peer: str, text: str | None) -> None:
        pass

    def digit(self, digit: str) -> None:
        self.digits.append(digit)

    async def leave(self) -> None:
        self.left = True


@dataclass
class FakeDriver:
    """Admits everybody, unless told otherwise."""

    sessions: list[FakeSession] = field(default_factory=list)
    refusal: Exception | None = None
    silent: bool = False
    joining: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: bool = False

    async def join(self, who: Participant, worker: MediaWorker, ended: SessionEnded) -> FakeSession:
        self.joining.set()
        if self.refusal is not None:
            raise self.refusal
        if self.silent:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up = True
        self.sessions.append(FakeSession(who, ended))
        return self.sessions[-1]

    async def close(self) -> None: ...
