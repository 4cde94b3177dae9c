"""The Janus API over one WebSocket: a session, its handles, and requests matched to their replies.

Source: Janus documentation, "RESTful, WebSockets, RabbitMQ, MQTT, Nanomsg and UnixSockets API"; subprotocol
``janus-protocol``. One connection carries one Janus session, so that calls share nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, RoomRefused

KEEPALIVE_S = 25.0
"""Janus ends a session that is silent for 60 s (``session_timeout``)."""

Json = dict[str, Any]


class JanusError(Exception):
    """Janus refused a request; ``code`` is its error number (458 and up: core, 421 to 499: plugin)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (Janus error {code})")
        self.code = code


class JanusLost(Exception):
    """The connection to Janus is gone or Janus does not answer."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a handle: ``kind`` is Janus' own word (``event``, ``hangup``, ``webrtcup``, ...)."""

    handle: int
    kind: str
    data: Json
    """The plugin's data; for kinds other than ``event`` the whole message."""
    jsep: Json | None


def websocket_url(url: str) -> str:
    """``http(s)`` URLs are taken as ``ws(s)``: users copy them from a browser."""
    for web, socket in (("http://", "ws://"), ("https://", "wss://")):
        if url.startswith(web):
            return socket + url[len(web) :]
    return url


class JanusConnection:
    """A WebSocket with one Janus session on it, made by :meth:`open`; done with when :attr:`lost` is done."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        socket: aiohttp.ClientWebSocketResponse,
        on_event: Callable[[Event], None],
        timeout_s: float,
    ) -> None:
        self._client = client
        self._socket = socket
        self._on_event = on_event
        self._timeout_s = timeout_s
        self._session: int | None = None
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._ack_is_answer: set[asyncio.Future[Json]] = set()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the connection can't be used any more."""
        self._tasks = [asyncio.create_task(self._read(), name="janus-read")]

    @classmethod
    async def open(
        cls, url: str, on_event: Callable[[Event], None], timeout_s: float = 10.0
    ) -> JanusConnection:
        """Connect and create the session; ``on_event`` gets every event in the order sent, replies included.

        Raises:
            JanusLost: Janus can't be reached or does not answer in ``timeout_s`` seconds.
        """
        client = aiohttp.ClientSession()
        try:
            async with asyncio.timeout(timeout_s):
                socket = await client.ws_connect(
                    websocket_url(url), protocols=("janus-protocol",), heartbeat=10.0, max_msg_size=1 << 20
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
            await client.close()
            raise JanusLost(f"{url}: {e or 'no answer'}") from e
        except BaseException:
            await client.close()
            raise
        connection = cls(client, socket, on_event, timeout_s)
        try:
            reply = await connection._send({"janus": "create"})
            connection._session = int(reply["data"]["id"])
        except (JanusError, KeyError, TypeError, ValueError) as e:
            await connection.close()
            raise JanusLost(f"{url}: no session: {e}") from e
        except BaseException:
            await connection.close()
            raise
        connection._tasks.append(asyncio.create_task(connection._keep_alive(), name="janus-keepalive"))
        return connection

    async def attach(self, plugin: str) -> int:
        """A new handle of ``plugin``; raises :class:`JanusError` or :class:`JanusLost`."""
        reply = await self._send({"janus": "attach", "plugin": plugin})
        return int(reply["data"]["id"])

    async def request(self, handle: int, body: Json, jsep: Json | None = None) -> Event:
        """Send ``body`` to the handle's plugin; returns its answer, be it immediate or after an ack.

        Raises:
            JanusError: Janus or the plugin refused.
            JanusLost: no answer in time, or the connection is gone.
        """
        message: Json = {"janus": "message", "handle_id": handle, "body": body}
        if jsep is not None:
            message["jsep"] = jsep
        reply = await self._send(message)
        data = reply.get("plugindata", {}).get("data", {})
        if "error_code" in data:
            raise JanusError(int(data["error_code"]), str(data.get("error", "no reason given")))
        return Event(handle, str(reply.get("janus")), data, reply.get("jsep"))

    async def close(self) -> None:
        """End the session and the connection. Safe to call twice; never raises."""
        if not self._socket.closed and self._session is not None and not self.lost.done():
            with contextlib.suppress(JanusError, JanusLost, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._send({"janus": "destroy"})
        for task in self._tasks:
            task.cancel()
        self._fail("closed")
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(2.0):
                await self._socket.close()
        await self._client.close()

    async def _send(self, message: Json, *, ack_is_answer: bool = False) -> Json:
        if self.lost.done():
            raise JanusLost(self.lost.result())
        transaction = secrets.token_hex(8)
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = future
        if ack_is_answer:
            self._ack_is_answer.add(future)
        if self._session is not None:
            message = {**message, "session_id": self._session}
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._socket.send_json({**message, "transaction": transaction})
                return await future
        except TimeoutError:
            raise JanusLost(f"no answer to '{message['janus']}' in {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise JanusLost(str(e)) from e
        finally:
            self._waiting.pop(transaction, None)
            self._ack_is_answer.discard(future)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            try:
                await self._send({"janus": "keepalive"}, ack_is_answer=True)
            except (JanusError, JanusLost) as e:
                self._fail(f"keepalive: {e}")
                return

    async def _read(self) -> None:
        reason = "the connection was closed"
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._receive(message.data)
        except (aiohttp.ClientError, OSError) as e:
            reason = str(e)
        finally:
            self._fail(reason)

    def _receive(self, text: str) -> None:
        try:
            message: Json = json.loads(text)
            kind = str(message["janus"])
        except (ValueError, KeyError, TypeError):
            return
        if kind == "timeout":
            self._fail("Janus ended the session (timeout)")
            return
        waiting = self._waiting.get(str(message.get("transaction", "")))
        if kind == "ack" and waiting not in self._ack_is_answer:
            return
        if "sender" in message and kind != "success":
            data = message.get("plugindata", {}).get("data", {}) if kind == "event" else message
            self._on_event(Event(int(message["sender"]), kind, data, message.get("jsep")))
        if waiting is not None and not waiting.done():
            self._answer(waiting, kind, message)

    def _answer(self, waiting: asyncio.Future[Json], kind: str, message: Json) -> None:
        if kind == "error":
            error = message.get("error", {})
            waiting.set_exception(JanusError(int(error.get("code", 0)), str(error.get("reason", ""))))
        else:
            waiting.set_result(message)

    def _fail(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(JanusLost(reason))


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
