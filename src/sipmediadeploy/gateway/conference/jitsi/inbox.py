"""What the server, the focus and others in the room send: answered, and kept for the visit to act on."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from xml.etree.ElementTree import Element

import structlog

from sipmediadeploy.gateway.conference.jitsi import jingle, jingle_sdp, muc, stanzas
from sipmediadeploy.gateway.conference.jitsi.door import Door
from sipmediadeploy.gateway.conference.jitsi.room import Room
from sipmediadeploy.gateway.conference.jitsi.stanzas import local_name, split_name
from sipmediadeploy.gateway.conference.jitsi.stream import XmppLost
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection

log = structlog.get_logger(__name__)

MAX_PENDING = 50
_MUTE = {"http://jitsi.org/jitmeet/audio": "audio", "http://jitsi.org/jitmeet/video": "video"}


class Inbox:
    """Takes stanzas as they come; facts change and ``wake`` is called, nothing waits here."""

    def __init__(self, room: Room, connection: XmppConnection, wake: Callable[[], None]) -> None:
        self._room = room
        self._xmpp = connection
        self._wake = wake
        self.door: Door | None = None
        """Hears what is not about the room, while the call waits at its door."""
        self.sessions: deque[jingle.Session] = deque(maxlen=MAX_PENDING)
        """What the focus said about media sessions, not yet acted on."""

    def take(self, stanza: Element) -> None:
        """One stanza that is no answer to an IQ of ours."""
        match local_name(stanza):
            case "presence":
                if self._room.hear(stanza):
                    self._wake()
                elif self.door is not None:
                    self.door.hear(stanza)
            case "message" if self.door is not None:
                self.door.hear(stanza)
            case "iq":
                self._on_iq(stanza)

    def _on_iq(self, iq: Element) -> None:
        payload = iq[0] if len(iq) else None
        namespace, name = split_name(payload.tag) if payload is not None else ("", "")
        if payload is not None and namespace == stanzas.DISCO_INFO and iq.get("type") == "get":
            self._xmpp.reply(iq, muc.disco_result(self._room.me, payload.get("node")))
        elif namespace == stanzas.PING:
            self._xmpp.reply(iq)
        elif payload is not None and (namespace, name) == (jingle.JINGLE, "jingle"):
            self._on_jingle(iq, payload)
        elif (
            payload is not None
            and name == "mute"
            and namespace in _MUTE
            and self._room.is_focus(iq.get("from"))
        ):
            self._xmpp.reply(iq)
            self._muted(_MUTE[namespace], (payload.text or "").strip() == "true")
        else:
            self._xmpp.refuse(iq, "service-unavailable")

    def _on_jingle(self, iq: Element, payload: Element) -> None:
        sender = iq.get("from") or ""
        if not self._room.is_focus(sender):
            self._decline(iq, payload)
            return
        try:
            session = jingle.parse_jingle(payload, sender)
        except jingle.BadJingle as e:
            log.warning("jingle refused", sender=sender, error=str(e))
            self._xmpp.refuse(iq, "bad-request")
            return
        self._xmpp.reply(iq)
        self.sessions.append(session)
        self._wake()

    def _decline(self, iq: Element, payload: Element) -> None:
        """Somebody in the room tries a peer-to-peer session."""
        if payload.get("action") != "session-initiate":
            self._xmpp.refuse(iq, "item-not-found")
            return
        self._xmpp.reply(iq)
        log.info("peer-to-peer session declined", sender=iq.get("from"))
        decline = jingle_sdp.session_terminate(payload.get("sid", ""), "decline")
        attributes = {"type": "set", "id": secrets.token_hex(6), "to": iq.get("from")}
        with contextlib.suppress(XmppLost):
            self._xmpp.send(stanzas.element(stanzas.CLIENT, "iq", attributes, decline))

    def _muted(self, what: str, muted: bool) -> None:
        """A moderator has muted us: nothing more is sent, and the room must see it."""
        log.info("muted by a moderator", room=self._room.me.room, what=what, muted=muted)
        me = self._room.me
        self._room.me = replace(me, audio_muted=muted) if what == "audio" else replace(me, video_muted=muted)
        with contextlib.suppress(XmppLost):
            self._xmpp.send(muc.presence(self._room.me, join=False))
        self._wake()
