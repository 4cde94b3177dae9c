"""One WebSocket with an XMPP stream on it, logged in (RFC 7395, RFC 6120)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

import aiohttp

from sipmediadeploy.gateway.conference.jitsi import stanzas
from sipmediadeploy.gateway.conference.jitsi.stanzas import BadStanza, element, find, local_name

HEARTBEAT_S = 10.0
"""A WebSocket ping so often; no pong in half of it and the connection is lost."""


class XmppLost(Exception):
    """The connection can't be made or is gone."""


class LoginRefused(Exception):
    """The server does not let this client log in."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom to log in: as an anonymous guest, or with a JWT."""

    websocket: str
    domain: str
    room: str
    tls: ssl.SSLContext | None = None
    token: Callable[[], str] | None = None
    """Makes the token for one connection."""

    def url(self, resume: str | None = None) -> str:
        """The WebSocket's address; the room lets load balancers keep a conference on one server."""
        query = {"room": self.room}
        if self.token is not None:
            query["token"] = self.token()
        if resume:
            query["previd"] = resume  # Jitsi's Prosody gives the same anonymous user again
        return f"{self.websocket}{'&' if '?' in self.websocket else '?'}{urlencode(query)}"


class XmppStream:
    """A logged-in stream; stanzas in and out, nothing more."""

    def __init__(self, client: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._client = client
        self._socket = socket
        self.features: Element = element(stanzas.STREAM, "features")

    @classmethod
    async def open(cls, login: Login, resume: str | None = None) -> XmppStream:
        """Connect and log in.

        Raises:
            XmppLost: the server can't be reached or does not speak XMPP.
            LoginRefused: it does not take guests, or not this token.
        """
        client = aiohttp.ClientSession()
        try:
            socket = await client.ws_connect(
                login.url(resume),
                protocols=("xmpp",),
                heartbeat=HEARTBEAT_S,
                max_msg_size=2 * stanzas.MAX_BYTES,
                ssl=login.tls if login.tls is not None else True,
            )
            stream = cls(client, socket)
        except (aiohttp.ClientError, OSError, ValueError) as e:
            await client.close()
            raise XmppLost(f"{login.websocket}: {_without_query(e)}") from e
        except BaseException:
            await client.close()
            raise
        try:
            await stream._log_in(login.domain)
        except BaseException:
            await stream.close()
            raise
        return stream

    async def _log_in(self, domain: str) -> None:
        await self._begin(domain)
        offered = find(self.features, stanzas.SASL, "mechanisms")
        mechanisms = [(x.text or "").strip() for x in offered] if offered is not None else []
        if "ANONYMOUS" not in mechanisms:
            raise LoginRefused(f"{domain} takes no guests (it offers {', '.join(mechanisms) or 'nothing'})")
        await self.send(stanzas.to_text(element(stanzas.SASL, "auth", {"mechanism": "ANONYMOUS"})))
        answer = await self.receive()
        if local_name(answer) != "success":
            reasons = [local_name(x) for x in answer if local_name(x) != "text"]
            text = stanzas.text_of(answer, stanzas.SASL, "text") or ""
            raise LoginRefused(f"{domain}: {': '.join(x for x in (*reasons, text) if x) or 'not let in'}")
        await self._begin(domain)

    async def _begin(self, domain: str) -> None:
        await self.send(stanzas.to_text(element(stanzas.FRAMING, "open", {"to": domain, "version": "1.0"})))
        opened = await self.receive()
        if local_name(opened) != "open":
            raise XmppLost(f"{domain}: the server sent <{local_name(opened)}/> where <open/> was expected")
        self.features = await self.receive()

    async def send(self, text: str) -> None:
        """Send one stanza; raises :class:`XmppLost`."""
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as e:
            raise XmppLost(str(e)) from e

    async def receive(self) -> Element:
        """The next stanza.

        Raises:
            XmppLost: the stream has ended.
            BadStanza: what came is no stanza.
        """
        try:
            message = await self._socket.receive()
        except (aiohttp.ClientError, OSError) as e:
            raise XmppLost(str(e)) from e
        if message.type is not aiohttp.WSMsgType.TEXT:
            error = self._socket.exception()
            raise XmppLost(str(error) if error else "the server closed the connection")
        stanza = stanzas.parse_stanza(message.data)
        if stanza.tag == f"{{{stanzas.FRAMING}}}close":
            raise XmppLost("the server closed the stream")
        if stanza.tag == f"{{{stanzas.STREAM}}}error":
            raise XmppLost(f"the server ended the stream: {local_name(stanza[0]) if len(stanza) else ''}")
        return stanza

    async def close(self) -> None:
        """Close the stream and the connection. Never raises."""
        with contextlib.suppress(XmppLost, aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(2.0):
                if not self._socket.closed:
                    await self.send(stanzas.to_text(element(stanzas.FRAMING, "close")))
                    await self._socket.close()
        await self._client.close()


def _without_query(error: Exception) -> str:
    """The error's text; it may quote the address, whose query holds the token."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"HTTP {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error.strerror or error.os_error)
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return str(error) or type(error).__name__
    return type(error).__name__


__all__ = ["BadStanza", "Login", "LoginRefused", "XmppLost", "XmppStream"]
