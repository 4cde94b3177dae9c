"""The bridge channel: how messages get to the bridge and back."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Protocol

import aiohttp
import structlog

from sipmediadeploy.gateway.conference.jitsi.bridge import MAX_CHARACTERS, BadMessage, Message, parse_message
from sipmediadeploy.gateway.media.api import MediaError, MediaWorker

log = structlog.get_logger(__name__)

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
HEARTBEAT_S = 10.0
CONNECT_LIMIT_S = 5.0
MAX_NOTED = 5
"""So many bad messages are logged; more would only fill the log."""


class BridgeChannel(Protocol):
    """A way to the bridge: a WebSocket, or a data channel of the peer connection."""

    def send(self, text: str) -> None:
        """Send, when it is open; what matters is sent again by whoever hears ``opened``."""
        ...

    async def close(self) -> None:
        """Close it. Safe to call twice; never raises."""
        ...


class MessageReader:
    """Parses what comes in; a bad message costs at most a log line."""

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self._on_message = on_message
        self._bad = 0

    def read(self, text: str) -> None:
        """Parse one message and hand it on."""
        try:
            message = parse_message(text)
        except BadMessage as e:
            self._bad += 1
            if self._bad <= MAX_NOTED:
                log.warning("bridge message ignored", error=str(e))
            return
        if message is not None:
            self._on_message(message)


class WebSocketChannel:
    """The channel as a WebSocket of the bridge, made again when it breaks."""

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext | None,
        opened: Callable[[], None],
        on_message: Callable[[Message], None],
    ) -> None:
        """Connects at once, in the background; ``opened`` is called after each time that it has connected."""
        self._url = url
        self._tls = tls
        self._opened = opened
        self._reader = MessageReader(on_message)
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        self._task = asyncio.create_task(self._run(), name="jitsi-bridge")

    def send(self, text: str) -> None:
        """See :class:`BridgeChannel`."""
        with contextlib.suppress(asyncio.QueueFull):
            self._outgoing.put_nowait(text)

    async def close(self) -> None:
        """See :class:`BridgeChannel`."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                if await self._connect_and_read():
                    failures = 0
                why = "closed by the bridge"
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
                why = str(e) or type(e).__name__
            log.info("bridge channel lost", why=_without_password(why, self._url))
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1

    async def _connect_and_read(self) -> bool:
        async with aiohttp.ClientSession() as client:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                socket = await client.ws_connect(
                    self._url,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=2 * MAX_CHARACTERS,
                    ssl=self._tls if self._tls is not None else True,
                )
            async with socket:
                while not self._outgoing.empty():
                    self._outgoing.get_nowait()  # said to a connection that is gone
                self._opened()
                writer = asyncio.create_task(self._write(socket), name="jitsi-bridge-write")
                try:
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.TEXT:
                            self._reader.read(message.data)
                finally:
                    writer.cancel()
                    await asyncio.gather(writer, return_exceptions=True)
        return True

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_str(await self._outgoing.get())


class DataChannel:
    """The channel as a data channel of the peer connection; it lives and ends with that."""

    LABEL, PROTOCOL = "JVB data channel", "http://jitsi.org/protocols/colibri"

    def __init__(
        self,
        worker: MediaWorker,
        peer: str,
        opened: Callable[[], None],
        on_message: Callable[[Message], None],
    ) -> None:
        """``opened`` is called when it is open; the media worker must have been told to open it."""
        self._worker = worker
        self._peer = peer
        self._opened = opened
        self._reader = MessageReader(on_message)
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        self._task = asyncio.create_task(self._write(), name="jitsi-data-channel")
        self.is_open = False

    def hear(self, text: str | None) -> None:
        """What the media worker tells: a message, or None for "open"."""
        if text is None:
            self.is_open = True
            self._opened()
        else:
            self._reader.read(text)

    def send(self, text: str) -> None:
        """See :class:`BridgeChannel`."""
        if self.is_open:
            with contextlib.suppress(asyncio.QueueFull):
                self._outgoing.put_nowait(text)

    async def close(self) -> None:
        """See :class:`BridgeChannel`."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            try:
                await self._worker.send_channel(self._peer, await self._outgoing.get())
            except MediaError as e:
                log.info("bridge channel lost", why=str(e))
                return


def _without_password(text: str, url: str) -> str:
    """The address's query holds the channel's password."""
    return text.replace(url, url.partition("?")[0]).partition("?pwd=")[0]
