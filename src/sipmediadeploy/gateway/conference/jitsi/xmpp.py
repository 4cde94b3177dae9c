"""An XMPP client: a bound session with IQ requests, stream management and resumption."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from xml.etree.ElementTree import Element

import structlog

from sipmediadeploy.gateway.conference.jitsi import stanzas
from sipmediadeploy.gateway.conference.jitsi.smacks import Overflow, StreamManagement
from sipmediadeploy.gateway.conference.jitsi.stanzas import BadStanza, element, find, local_name
from sipmediadeploy.gateway.conference.jitsi.stream import Login, LoginRefused, XmppLost, XmppStream

log = structlog.get_logger(__name__)

IQ_LIMIT_S = 10.0
PING_EVERY_S = 20.0
RESUME_LIMIT_S = 8.0
"""How long a broken connection is tried to be resumed."""
RESUME_PAUSE_S = 0.3
MAX_BAD_STANZAS = 20

_SM = f"{{{stanzas.SMACKS}}}"


class XmppError(Exception):
    """An IQ was answered with an error; ``condition`` is its name (RFC 6120, section 8.3.3)."""

    def __init__(self, condition: str, text: str = "", error: Element | None = None) -> None:
        super().__init__(f"{condition}: {text}" if text else condition)
        self.condition = condition
        self.text = text
        self.error = error


class XmppConnection:
    """A session bound to a JID; made by :meth:`open`, done with when :attr:`lost` is done."""

    def __init__(self, login: Login, stream: XmppStream, on_stanza: Callable[[Element], None]) -> None:
        self._login = login
        self._stream = stream
        self._on_stanza = on_stanza
        self._waiting: dict[tuple[str, str | None], asyncio.Future[Element]] = {}
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._management: StreamManagement | None = None
        self._resume_id: str | None = None
        self._closing = False
        self._bad = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.jid = ""
        self.resumed = 0
        """How often the session was resumed."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the session can't be used any more."""

    @classmethod
    async def open(
        cls, login: Login, on_stanza: Callable[[Element], None], timeout_s: float = 10.0
    ) -> XmppConnection:
        """Log in and bind; ``on_stanza`` gets each stanza that is no answer to an IQ of ours, in order.

        Raises:
            XmppLost: the server can't be reached or does not answer in ``timeout_s`` seconds.
            LoginRefused: it does not take guests, or not this token.
        """
        try:
            async with asyncio.timeout(timeout_s):
                stream = await XmppStream.open(login)
                connection = cls(login, stream, on_stanza)
                try:
                    await connection._bind()
                except BaseException:
                    await stream.close()
                    raise
        except TimeoutError:
            raise XmppLost(f"{login.websocket}: no answer in {timeout_s:g} s") from None
        except BadStanza as e:
            raise XmppLost(f"{login.websocket}: {e}") from None
        connection._start()
        return connection

    async def _bind(self) -> None:
        request = element(stanzas.CLIENT, "iq", {"type": "set", "id": "bind"}, element(stanzas.BIND, "bind"))
        await self._stream.send(stanzas.to_text(request))
        answer = await self._stream.receive()
        jid = stanzas.text_of(find(answer, stanzas.BIND, "bind"), stanzas.BIND, "jid")
        if not jid:
            raise LoginRefused(f"no JID was given: {stanzas.error_of(answer)[0]}")
        self.jid = jid
        if find(self._stream.features, stanzas.SMACKS, "sm") is None:
            return
        await self._stream.send(stanzas.to_text(element(stanzas.SMACKS, "enable", {"resume": "true"})))
        enabled = await self._stream.receive()
        if enabled.tag == _SM + "enabled":
            self._management = StreamManagement()
            if enabled.get("resume") in ("true", "1"):
                self._resume_id = enabled.get("id")

    def _start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._read(), name="xmpp-read"),
            asyncio.create_task(self._write(), name="xmpp-write"),
            asyncio.create_task(self._ping(), name="xmpp-ping"),
        ]

    def send(self, stanza: Element) -> None:
        """Send a stanza, after those sent before; raises :class:`XmppLost` when the session is gone."""
        if self.lost.done():
            raise XmppLost(self.lost.result())
        self._outgoing.put_nowait(stanzas.to_text(stanza))

    async def iq(self, kind: str, to: str | None, payload: Element, timeout_s: float = IQ_LIMIT_S) -> Element:
        """Send an IQ (``get`` or ``set``) and return the answer.

        Raises:
            XmppError: it was refused.
            XmppLost: no answer in ``timeout_s`` seconds, or the session is gone.
        """
        number = secrets.token_hex(6)
        future: asyncio.Future[Element] = asyncio.get_running_loop().create_future()
        self._waiting[number, to] = future
        try:
            self.send(element(stanzas.CLIENT, "iq", {"type": kind, "id": number, "to": to}, payload))
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            raise XmppLost(f"no answer to <{local_name(payload)}/> in {timeout_s:g} s") from None
        finally:
            self._waiting.pop((number, to), None)
        if answer.get("type") == "error":
            raise XmppError(*stanzas.error_of(answer))
        return answer

    def reply(self, iq: Element, payload: Element | None = None) -> None:
        """Answer an IQ."""
        self._answer(iq, "result", payload)

    def refuse(self, iq: Element, condition: str) -> None:
        """Answer an IQ with an error."""
        error = element(stanzas.CLIENT, "error", {"type": "cancel"}, element(stanzas.STANZAS, condition))
        self._answer(iq, "error", error)

    def _answer(self, iq: Element, kind: str, payload: Element | None) -> None:
        with contextlib.suppress(XmppLost):
            attributes = {"type": kind, "id": iq.get("id"), "to": iq.get("from")}
            self.send(element(stanzas.CLIENT, "iq", attributes, payload))

    async def close(self) -> None:
        """Send what is waiting to be sent, then end the session. Safe to call twice; never raises."""
        self._closing = True
        if not self.lost.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._outgoing.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail("closed")
        await self._stream.close()

    async def _write(self) -> None:
        while True:
            text = await self._outgoing.get()
            try:
                ask = self._management.sent(text) if self._management else False
                await self._stream.send(text)
                if ask:
                    await self._stream.send(stanzas.to_text(element(stanzas.SMACKS, "r")))
            except XmppLost:
                pass  # the reader notices, too, and resumes; what is unacknowledged is sent again
            except Overflow as e:
                self._fail(str(e))
                return
            finally:
                self._outgoing.task_done()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            with contextlib.suppress(XmppError, XmppLost):
                await self.iq("get", self._login.domain, element(stanzas.PING, "ping"))

    async def _read(self) -> None:
        reason = ""
        try:
            while True:
                try:
                    self._receive(await self._stream.receive())
                except BadStanza as e:
                    self._bad += 1
                    log.warning("stanza ignored", error=str(e))
                    if self._bad > MAX_BAD_STANZAS:
                        reason = "too many bad stanzas"
                        return
                except XmppLost as e:
                    reason = str(e)
                    if self._closing or not await self._resume(reason):
                        return
        except Exception as e:
            reason = f"{type(e).__name__}: {e}"
            log.exception("xmpp connection failed")
        finally:
            self._fail(reason or "cancelled")

    async def _resume(self, why: str) -> bool:
        """A new connection for the same session (XEP-0198, section 5); False: it can't be."""
        if self._management is None or self._resume_id is None:
            return False
        log.info("xmpp connection lost, resuming", jid=self.jid, why=why)
        await self._stream.close()
        deadline = asyncio.get_running_loop().time() + RESUME_LIMIT_S
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with asyncio.timeout_at(deadline):
                    stream = await XmppStream.open(self._login, self._resume_id)
                    done = await self._resumed_on(stream)
                    if not done:
                        await stream.close()
                    return done
            except (XmppLost, BadStanza, TimeoutError):
                await asyncio.sleep(RESUME_PAUSE_S)
            except LoginRefused as e:
                log.info("xmpp session not resumed", error=str(e))
                return False
        return False

    async def _resumed_on(self, stream: XmppStream) -> bool:
        if self._management is None:
            return False
        attributes = {"previd": self._resume_id, "h": self._management.received}
        await stream.send(stanzas.to_text(element(stanzas.SMACKS, "resume", attributes)))
        answer = await stream.receive()
        if answer.tag != _SM + "resumed":
            return False
        self._management.acknowledged(_number(answer.get("h")))
        self._stream = stream
        for text in self._management.unacknowledged:
            await stream.send(text)
        self.resumed += 1
        log.info("xmpp session resumed", jid=self.jid)
        return True

    def _receive(self, stanza: Element) -> None:
        if stanza.tag.startswith(_SM):
            self._manage(stanza)
            return
        if self._management is not None:
            self._management.got()
        if local_name(stanza) == "iq" and stanza.get("type") in ("result", "error"):
            self._answered(stanza)
        else:
            self._on_stanza(stanza)

    def _manage(self, stanza: Element) -> None:
        if self._management is None:
            return
        if stanza.tag == _SM + "r":
            text = stanzas.to_text(element(stanzas.SMACKS, "a", {"h": self._management.received}))
            acknowledge = asyncio.create_task(self._acknowledge(text))
            self._tasks = [t for t in self._tasks if not t.done()] + [acknowledge]
        elif stanza.tag == _SM + "a":
            self._management.acknowledged(_number(stanza.get("h")))

    async def _acknowledge(self, text: str) -> None:
        with contextlib.suppress(XmppLost):
            await self._stream.send(text)

    def _answered(self, stanza: Element) -> None:
        """Match by id and sender: nobody else can answer for the one asked (RFC 6120, section 8.1.2.1)."""
        number, sender = stanza.get("id", ""), stanza.get("from")
        own = (None, self._login.domain, self.jid, self.jid.split("/")[0])
        for key in ((number, sender), (number, None) if sender in own else None):
            future = self._waiting.get(key) if key else None
            if future is not None and not future.done():
                future.set_result(stanza)
                return

    def _fail(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(XmppLost(reason))


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else 0
