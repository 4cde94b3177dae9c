"""A small focus and bridge for tests: a real occupant of the room, a real peer connection, a real channel.

It speaks the stanzas that jicofo and the bridge speak, for one participant at a time; what it sends is a tone
and a colour.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from xml.etree.ElementTree import Element

from aiohttp import WSMsgType, web

from sipmediadeploy.gateway.conference.jitsi import jingle, muc, stanzas
from sipmediadeploy.gateway.conference.jitsi.jingle import Session, parse_jingle
from sipmediadeploy.gateway.conference.jitsi.jingle_sdp import Accepting, Choices, sdp_offer, session_accept
from sipmediadeploy.gateway.conference.jitsi.muc import Self
from sipmediadeploy.gateway.conference.jitsi.stanzas import element, find, local_name
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection
from sipmediadeploy.gateway.media.api import IceServers
from sipmediadeploy.protocol.replica import ConferenceAccess
from tests.harness.waiting import until
from tests.integration.conference.guests import Guest, caller
from tests.integration.jitsi.guests import ROOM, login
from tests.integration.jitsi.prosody_server import DOMAIN, MUC, ProsodyServer
from tests.integration.media_terminal import Colour

OWNER = "http://jabber.org/protocol/muc#owner"
CONFIG = """
var config = {{}};
config.hosts = {{ domain: '{domain}', muc: 'conference.' + '{domain}' }};
config.websocket = '{websocket}'; // not where the page is
config.conferenceRequestUrl = `/conference-request/v1`;
"""


class Focus:
    """The focus and the bridge of one room."""

    def __init__(self, server: ProsodyServer, port: int, media: Guest) -> None:
        self._server = server
        self._media = media
        self._sessions = 0
        self._sid = ""
        self._connection: XmppConnection | None = None
        self._options: dict[str, str] = {}
        self._channels: set[web.WebSocketResponse] = set()
        self.port = port
        self.terminal = media.terminal
        """What is heard and seen of the participant."""
        self.video_ssrc = 0
        """Of the latest session."""
        self.ways: tuple[str, ...] = ("web-socket",)
        """How the bridge channel is offered: ``web-socket``, ``data``, or both."""
        self.status = 200
        """What conference requests are answered with."""
        self.not_ready = 1
        """So many conference requests are answered with 'not yet'."""
        self.requests: list[dict[str, Any]] = []
        self.bearers: list[str] = []
        """What those who asked for a conference showed."""
        self.jingle: list[tuple[str, Element]] = []
        """(action, stanza) of what came in."""
        self.said: list[dict[str, Any]] = []
        """Messages that came over the channel."""
        self.stanzas: list[Element] = []

    @property
    def access(self) -> ConferenceAccess:
        """What a user writes, and no more."""
        return ConferenceAccess(platform="jitsi", url=f"http://127.0.0.1:{self.port}", turn="never")

    @property
    def connection(self) -> XmppConnection:
        """The session of the occupant ``focus``."""
        assert self._connection is not None
        return self._connection

    async def enter(self) -> None:
        """Be in the room, as ``focus``."""
        if self._connection is None or self._connection.lost.done():
            self._connection = await XmppConnection.open(login(self._server), self._on_stanza)
            self._connection.send(muc.presence(Self(ROOM, "focus", "focus"), join=True))
            seen = len(self.stanzas)
            await until("the focus is in the room", lambda: len(self.stanzas) > seen, 5)
            if self._options:
                await self._submit()

    async def configure(self, **options: str) -> None:
        """Set options of the room, ``muc#roomconfig_...``, now and whenever the focus makes it again."""
        await self.enter()
        self._options = options
        await self._submit()

    async def _submit(self) -> None:
        form = "jabber:x:data"
        wanted = {"FORM_TYPE": "http://jabber.org/protocol/muc#roomconfig"}
        wanted |= {f"muc#roomconfig_{name}": value for name, value in self._options.items()}
        fields = (
            element(form, "field", {"var": name}, element(form, "value", text=value))
            for name, value in wanted.items()
        )
        submitted = element(form, "x", {"type": "submit"}, *fields)
        await self.connection.iq("set", ROOM, element(OWNER, "query", None, submitted))

    async def close(self) -> None:
        """Leave."""
        await self.break_channel()
        if self._connection is not None:
            await self._connection.close()

    def actions(self, name: str) -> int:
        """How many Jingle stanzas of that action came in."""
        return sum(action == name for action, _ in self.jingle)

    async def initiate(self, endpoint: str, action: str = "session-initiate") -> None:
        """Make a session with the participant, as soon as he is asked for."""
        self._sessions += 1
        peer, self._sid = f"bridge-{self._sessions}", f"s{self._sessions}"
        worker = self._media.worker
        await worker.create_peer(peer, IceServers(), send=True)
        if "data" in self.ways:
            await worker.open_channel(peer, "the bridge's own", "")
        offer = await worker.offer(peer, receive=True)
        session = Session(action, self._sid, f"focus@{DOMAIN}/focus")
        made = session_accept(session, offer, Accepting("nobody", "jvb", last_n=None), action)
        video = parse_jingle(made, "").content("video")
        self.video_ssrc = video.sources[0].ssrc if video is not None else 0
        url = f"ws://127.0.0.1:{self.port}/colibri-ws/{self._sessions}?pwd=x"
        for transport in made.iter(f"{{{jingle.ICE}}}transport") if "web-socket" in self.ways else ():
            transport.append(element(jingle.COLIBRI, "web-socket", {"url": url}))
        made.append(element(stanzas.FOCUS, "bridge-session", {"id": f"b{self._sessions}"}))
        accepted = self.actions("session-accept") + self.actions("transport-accept")
        await self.connection.iq("set", f"{ROOM}/{endpoint}", made)
        await until(
            "the session is accepted",
            lambda: self.actions("session-accept") + self.actions("transport-accept") > accepted,
            10,
        )
        answer = sdp_offer(parse_jingle(self.jingle[-1][1], "him"), Choices())
        await worker.set_answer(peer, answer.replace("a=setup:active", "a=setup:passive"))

    async def terminate(self, endpoint: str) -> None:
        """End the session, as with somebody who is alone."""
        reason = element(jingle.JINGLE, "reason", None, element(jingle.JINGLE, "expired"))
        attributes = {"action": "session-terminate", "sid": self._sid}
        await self.connection.iq(
            "set", f"{ROOM}/{endpoint}", element(jingle.JINGLE, "jingle", attributes, reason)
        )

    async def say(self, text: str) -> None:
        """Send a message over the channel."""
        for channel in self._channels:
            await channel.send_str(text)
        if "data" in self.ways:
            await self._media.worker.send_channel(f"bridge-{self._sessions}", text)

    async def break_channel(self) -> None:
        """End the channel."""
        for channel in set(self._channels):
            await channel.close()

    def _on_stanza(self, stanza: Element) -> None:
        self.stanzas.append(stanza)
        if local_name(stanza) != "iq" or (asked := find(stanza, jingle.JINGLE, "jingle")) is None:
            return
        self.connection.reply(stanza)
        self.jingle.append((asked.get("action", ""), asked))

    async def config(self, _request: web.Request) -> web.Response:
        """``GET /config.js``."""
        return web.Response(text=CONFIG.format(domain=DOMAIN, websocket=self._server.websocket))

    async def request(self, request: web.Request) -> web.Response:
        """``POST /conference-request/v1``."""
        self.requests.append(await request.json())
        if "Authorization" in request.headers:
            self.bearers.append(request.headers["Authorization"])
        if self.status != 200:
            return web.Response(status=self.status)
        self.not_ready -= 1
        if self.not_ready >= 0:
            return web.json_response({"ready": False})
        await self.enter()
        return web.json_response({"ready": True, "focusJid": self.connection.jid, "room": ROOM})

    async def channel(self, request: web.Request) -> web.WebSocketResponse:
        """``/colibri-ws/...``."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._channels.add(socket)
        await socket.send_str('{"colibriClass":"ServerHello"}')
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.said.append(json.loads(message.data))
        self._channels.discard(socket)
        return socket

    @property
    def asked(self) -> list[dict[str, Any]]:
        """All receiver constraints, over whatever channel."""
        said = [*self.said, *(json.loads(text) for _, text in self._media.heard if text is not None)]
        return [m for m in said if m.get("colibriClass") == "ReceiverVideoConstraints"]

    @property
    def constraints(self) -> dict[str, Any]:
        """The latest receiver constraints."""
        return self.asked[-1] if self.asked else {}

    def heights(self) -> set[int]:
        """The heights that were asked for."""
        return {m["defaultConstraints"]["maxHeight"] for m in self.asked}


@contextlib.asynccontextmanager
async def running_focus(
    server: ProsodyServer, port: int, tone: float, colour: Colour
) -> AsyncIterator[Focus]:
    """A focus that waits for conference requests."""
    assert f"conference.{DOMAIN}" == MUC
    async with caller(tone, colour) as media:
        focus = Focus(server, port, media)
        app = web.Application()
        app.router.add_get("/config.js", focus.config)
        app.router.add_post("/conference-request/v1", focus.request)
        app.router.add_get("/colibri-ws/{session}", focus.channel)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield focus
        finally:
            await focus.close()
            await runner.cleanup()
