"""The conference seam: what a driver is.

A driver joins a room of one conference platform. It speaks the platform's signalling only; media is in the
call's media worker, which the driver reaches through :class:`~sipmediadeploy.gateway.media.api.MediaWorker`.
Drivers are found by entry point (group ``sipmediadeploy.conference``, name = platform).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sipmediadeploy.gateway.media.api import MediaWorker
from sipmediadeploy.protocol.replica import ConferenceAccess

ALONE = "Nobody else is here yet"
"""What a terminal reads, under the room's name, while it is the only one there."""


class RoomRefused(Exception):
    """The platform does not let the caller in. ``status`` is the SIP status code that says so best."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.status = status


class ConferenceUnavailable(Exception):
    """The platform can't be reached or does not answer in time (SIP 503)."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Who joins: the name that others see, and what is sent into the room."""

    room: str
    display_name: str
    audio: bool = True
    video: bool = True


SessionEnded = Callable[[str], None]
"""Called once, with a named reason, when the platform ends the session (kicked, room closed, lost)."""


class Session(Protocol):
    """A participant's stay in a room."""

    def peer_state(self, peer: str, state: str) -> None:
        """The call hands on what ``WorkerEvents.connection`` tells, so that a lost one is made anew."""
        ...

    def channel(self, peer: str, text: str | None) -> None:
        """The call hands on what ``WorkerEvents.channel`` tells."""
        ...

    def digit(self, digit: str) -> None:
        """The terminal pressed a digit. It may be a part of a password: never logged."""
        ...

    async def leave(self) -> None:
        """Leave the room and free all that the driver holds. Safe to call twice; never raises."""
        ...


class Driver(Protocol):
    """Joins rooms of one platform."""

    async def join(self, who: Participant, worker: MediaWorker, ended: SessionEnded) -> Session:
        """Join a room; returns when the platform has admitted the participant and media is being set up.

        Raises:
            RoomRefused: the platform says no.
            ConferenceUnavailable: the platform can't be reached.
        """
        ...

    async def close(self) -> None:
        """Free what is shared between sessions."""
        ...


class DriverFactory(Protocol):
    """What the entry point names: makes the driver from the gateway's configuration."""

    def __call__(self, access: ConferenceAccess, gateway: str) -> Driver: ...
