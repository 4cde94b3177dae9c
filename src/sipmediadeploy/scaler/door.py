"""Lets connections in from outside of the stack's network: over TLS, few at a time, and not for long.

asyncio's own servers take all that come, and wait for each for as long as it likes. Here a number is
served at a time and the others wait in the kernel's queue; who has not shown a good token in some seconds
is cut off, whatever it is sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections, and for how long."""

    places: int = 64
    of_one_address: int = 16
    stranger_s: float = 6.0
    """From its first packet to the first request with a good token: the handshake is in it."""
    known_s: float = 60.0
    """From one such request to the next, or to the end of its answer."""


Protocol = Callable[[], asyncio.Protocol]
_REFUSED_S = 0.2


class Door:
    """One port of all addresses of this machine."""

    def __init__(self, tls: ssl.SSLContext, limits: Limits | None = None) -> None:
        self._tls = tls
        self._limits = limits or Limits()
        self._places = asyncio.Semaphore(self._limits.places)
        self._of: Counter[str] = Counter()
        self._until: dict[asyncio.BaseTransport | None, asyncio.Timeout] = {}
        self._guests: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self, port: int, protocol: Protocol) -> AsyncIterator[None]:
        """Let in who comes to ``port`` meanwhile; ``protocol`` makes what serves one connection.

        Raises:
            OSError: the port can't be had.
        """
        with socket.create_server(("0.0.0.0", port), backlog=self._limits.places) as listening:
            listening.setblocking(False)
            accepting = asyncio.create_task(self._accept(listening, protocol))
            try:
                yield
            finally:
                tasks = [accepting, *self._guests]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def know(self, transport: asyncio.BaseTransport | None) -> None:
        """It has shown a good token, and may stay longer."""
        until = self._until.get(transport)
        if until is not None and not until.expired():
            until.reschedule(asyncio.get_running_loop().time() + self._limits.known_s)

    async def _accept(self, listening: socket.socket, protocol: Protocol) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError:  # reset while it waited, or no descriptors are left
                self._places.release()
                await asyncio.sleep(_REFUSED_S)
                continue
            guest = asyncio.create_task(self._serve(connection, str(peer[0]), protocol))
            self._guests.add(guest)
            guest.add_done_callback(self._guests.discard)

    async def _serve(self, connection: socket.socket, address: str, protocol: Protocol) -> None:
        self._of[address] += 1
        try:
            with connection:
                if self._of[address] <= self._limits.of_one_address:
                    await self._talk(connection, protocol)
        except (TimeoutError, OSError):  # ssl.SSLError is an OSError
            pass
        finally:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]
            self._places.release()

    async def _talk(self, connection: socket.socket, protocol: Protocol) -> None:
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[None] = loop.create_future()
        async with asyncio.timeout(self._limits.stranger_s) as until:
            transport, _ = await loop.connect_accepted_socket(
                lambda: _Watched(protocol(), closed), connection, ssl=self._tls
            )
            self._until[transport] = until
            try:
                await closed
            finally:
                del self._until[transport]
                transport.abort()


class _Watched(asyncio.Protocol):
    """Hands all on, and tells when the connection is over."""

    def __init__(self, inner: asyncio.Protocol, closed: asyncio.Future[None]) -> None:
        self._inner = inner
        self._closed = closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        if not self._closed.done():
            self._closed.set_result(None)
