"""One Jingle session with the focus: a peer connection of the media worker and a bridge channel."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

import structlog

from sipmediadeploy.gateway.conference.jitsi import bridge, jingle_sdp
from sipmediadeploy.gateway.conference.jitsi.bridge_channel import (
    BridgeChannel,
    DataChannel,
    WebSocketChannel,
)
from sipmediadeploy.gateway.conference.jitsi.jingle import BadJingle, Session
from sipmediadeploy.gateway.conference.jitsi.jingle_sdp import Accepting, Choices
from sipmediadeploy.gateway.conference.jitsi.stream import XmppLost
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection, XmppError
from sipmediadeploy.gateway.conference.stay import VisitLost
from sipmediadeploy.gateway.media.api import IceServers, MediaError, MediaWorker

log = structlog.get_logger(__name__)

CONNECT_S = 10.0
"""How long the peer connection may take until it is connected."""
CHANNEL_S = 2.0
"""How long a connected peer connection may have no open data channel before the WebSocket is tried."""
NUDGE_S, NUDGES, SLOW_NUDGE_S = 0.7, 10, 5.0
"""How often the bridge is asked anew for a picture that does not come: at first, and later."""
RECOVER_S = 3.0
"""How long it may be ``disconnected`` before it is made anew."""


@dataclass(frozen=True, slots=True)
class Medium:
    """What all sessions of a visit share."""

    worker: MediaWorker
    ice: IceServers
    connection: XmppConnection
    tls: ssl.SSLContext
    endpoint: str
    video: bool
    choices: Choices
    wake: Callable[[], None]
    """Something has changed: look at the session again."""


class MediaSession:
    """From a session-initiate (or transport-replace) to its end."""

    def __init__(
        self, medium: Medium, session: Session, peer: str, focus: str, wanted: bridge.Wanted
    ) -> None:
        self._medium = medium
        self._session = session
        self._peer = peer
        self._focus = focus
        self._wanted = wanted
        self._channel: BridgeChannel | None = None
        self._data: DataChannel | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._streams: dict[str, int] = {}
        self._forwarded: tuple[str, ...] = ()
        self._shown: int | None = None
        self._watched = True
        """Somebody wants our picture, as far as the bridge has said."""
        self._sending: tuple[bool, bool] | None = None
        self._told: int | None = None
        self._expected = False
        self._nudging = asyncio.create_task(self._nudge(), name="jitsi-nudge")
        self._created = False
        self.failed: str | None = None
        """Why the session must be made anew."""

    @property
    def sid(self) -> str:
        """The Jingle session id."""
        return self._session.sid

    @property
    def bridge_session(self) -> str | None:
        """The bridge's id of the session."""
        return self._session.bridge_session

    async def start(self) -> None:
        """Answer the focus's offer and open the bridge channel.

        Raises:
            VisitLost: the media worker or the focus can't do it.
        """
        medium = self._medium
        try:
            offer = jingle_sdp.sdp_offer(self._session, medium.choices)
            await medium.worker.create_peer(self._peer, medium.ice, send=True)
            self._created = True
            if self._offers_data():
                await medium.worker.open_channel(self._peer, DataChannel.LABEL, DataChannel.PROTOCOL)
                # Before the answer: it may be open before the focus has acknowledged our accept.
                self._channel = self._data = DataChannel(
                    medium.worker, self._peer, self._channel_opened, self._on_message
                )
            answer = await medium.worker.answer(self._peer, offer)
            if "a=candidate:" not in answer:
                raise VisitLost("no ICE candidate was found: the TURN server does not answer")
            await medium.connection.iq("set", self._focus, self._accept(answer))
        except (BadJingle, MediaError, XmppError, XmppLost) as e:
            raise VisitLost(f"session {self._session.sid}: {e}") from e
        self._watch(CONNECT_S, f"no peer connection in {CONNECT_S:g} s")
        if self._data is None:
            self._open_web_socket()

    def _accept(self, answer: str) -> Element:
        last_n = self._wanted.last_n if self._session.action == "session-initiate" else None
        who = Accepting(self._medium.connection.jid, self._medium.endpoint, last_n=last_n)
        action = "session-accept" if self._session.action == "session-initiate" else "transport-accept"
        return jingle_sdp.session_accept(self._session, answer, who, action)

    def _offers_data(self) -> bool:
        return self._medium.choices.data and self._session.sctp_port is not None

    def _open_web_socket(self) -> bool:
        transport = self._session.transport
        if transport is None or not transport.web_sockets:
            log.warning("the bridge offers no channel: no picture is received", sid=self._session.sid)
            return False
        self._channel = WebSocketChannel(
            transport.web_sockets[0], self._medium.tls, self._channel_opened, self._on_message
        )
        return True

    def _no_data_channel(self) -> None:
        """The data channel did not open: take the WebSocket, where there is one."""
        if self._data is not None and not self._data.is_open and self._open_web_socket():
            log.info("no data channel, the bridge is spoken to by WebSocket", sid=self._session.sid)

    def channel_event(self, peer: str, text: str | None) -> None:
        """What the worker tells of the data channel."""
        if peer == self._peer and self._data is not None:
            if text is None:
                log.info("data channel open", sid=self._session.sid)
            self._data.hear(text)

    def want(self, wanted: bridge.Wanted, expected: bool) -> None:
        """What is to be received from now on; ``expected``: somebody in the room shows something."""
        self._expected = expected and wanted.last_n > 0
        if wanted != self._wanted:
            self._wanted = wanted
            log.info("picture wanted", source=wanted.selected or "speaker", last_n=wanted.last_n)
            if self._channel is not None:
                self._channel.send(bridge.receiver_constraints(wanted))

    def peer_state(self, peer: str, state: str) -> None:
        """What the worker tells of the peer connection."""
        if peer != self._peer:
            return
        if state == "connected":
            self._unwatch()
            if self._data is not None and self._patience is None:
                self._patience = asyncio.get_running_loop().call_later(CHANNEL_S, self._no_data_channel)
        elif state == "failed":
            self._fail("the peer connection failed")
        elif state == "disconnected":
            self._watch(RECOVER_S, f"the peer connection was disconnected for {RECOVER_S:g} s")

    async def tell(self, *, audio_muted: bool, video_muted: bool) -> None:
        """Tell the worker which stream is the picture, and what of ours goes out, when that has changed."""
        sending = (not audio_muted, not video_muted and self._watched)
        try:
            if self._told != self._shown:
                self._told = self._shown
                await self._medium.worker.show_video(self._shown)
            if self._sending != sending:
                self._sending = sending
                log.info("sending", sid=self._session.sid, audio=sending[0], video=sending[1])
                await self._medium.worker.send_uplink(audio=sending[0], video=sending[1])
        except MediaError as e:
            raise VisitLost(str(e)) from e

    async def close(self) -> None:
        """Close channel and peer connection. Never raises."""
        self._unwatch()
        self._nudging.cancel()
        if self._patience is not None:
            self._patience.cancel()
        channels = {c for c in (self._channel, self._data) if c is not None}
        self._channel = self._data = None
        for channel in channels:
            await channel.close()
        if self._created:
            self._created = False
            try:
                await self._medium.worker.close_peer(self._peer)
            except MediaError as e:
                log.debug("peer not closed", peer=self._peer, error=str(e))

    def _watch(self, seconds: float, reason: str) -> None:
        self._unwatch()
        self._watchdog = asyncio.get_running_loop().call_later(seconds, self._fail, reason)

    def _unwatch(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.cancel()

    def _fail(self, reason: str) -> None:
        self.failed = self.failed or reason
        self._medium.wake()

    async def _nudge(self) -> None:
        """Have the bridge allocate anew while somebody shows a picture and none comes.

        A source that begins, or comes back, after the bridge has allocated is forwarded when it allocates
        again: up to 15 s later, or when what we want has changed, if only by a line (decision 0097).
        """
        tries = 0
        while True:
            await asyncio.sleep(NUDGE_S if tries < NUDGES else SLOW_NUDGE_S)
            try:
                missing = self._expected and not await self._medium.worker.video_arrives()
            except MediaError:
                return
            if not missing:
                tries = 0
            elif self._channel is not None:
                tries += 1
                lines = self._wanted.max_height + tries % 2
                log.info("no picture comes, asking anew", sid=self._session.sid, tries=tries)
                self._channel.send(bridge.receiver_constraints(replace(self._wanted, max_height=lines)))

    def _channel_opened(self) -> None:
        if self._channel is None:
            return
        self._channel.send(bridge.receiver_constraints(self._wanted))
        if self._medium.video:
            self._channel.send(bridge.video_type(f"{self._medium.endpoint}-v0", "camera"))

    def _on_message(self, message: bridge.Message) -> None:
        match message:
            case bridge.SourcesMap("video", mapped):
                self._streams = bridge.streams_after(self._streams, mapped)
                self._look()
            case bridge.ForwardedSources(sources):
                self._forwarded = sources
                self._look()
            case bridge.DominantSpeaker(endpoint):
                log.debug("dominant speaker", endpoint=endpoint)
            case bridge.SenderSourceConstraints(source, max_height):
                if source == f"{self._medium.endpoint}-v0":
                    self._watched = max_height != 0
                    self._medium.wake()
            case bridge.PingRequest():
                if self._channel is not None:
                    self._channel.send(bridge.ping_response(message))
            case bridge.ServerHello(version):
                log.info("bridge channel open", sid=self._session.sid, version=version)
            case _:
                log.debug("bridge message", message=message)

    def _look(self) -> None:
        """Which stream is the picture now."""
        source = next((x for x in self._forwarded if x in self._streams), None)
        if source is not None and self._streams[source] != self._shown:
            self._shown = self._streams[source]
            log.info("picture follows", source=source, ssrc=self._shown)
            self._medium.wake()
