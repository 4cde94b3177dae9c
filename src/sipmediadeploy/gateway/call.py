"""One call's life: from its INVITE until both sides are cleaned up, ended by exactly one named reason."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from sipmediadeploy.gateway import caller
from sipmediadeploy.gateway.conference.base import (
    ConferenceUnavailable,
    Driver,
    Participant,
    RoomRefused,
    Session,
)
from sipmediadeploy.gateway.media.api import MediaError, MediaWorker, SipMedia, WorkerEvents
from sipmediadeploy.gateway.metrics import GatewayMetrics
from sipmediadeploy.gateway.negotiation import Negotiation
from sipmediadeploy.gateway.ports import PortPairs, PortsExhausted
from sipmediadeploy.gateway.reasons import EndReason
from sipmediadeploy.gateway.sip.api import DialogEvents, OfferRefused
from sipmediadeploy.gateway.sip.dialog import SipDialog
from sipmediadeploy.gateway.sip.incoming import IncomingCall
from sipmediadeploy.gateway.sip.sdp import LocalMedia, SdpError

log = structlog.get_logger(__name__)


class Workers(Protocol):
    """Where workers come from: the worker pool."""

    async def acquire(self, events: WorkerEvents, limit_s: float = ...) -> MediaWorker:
        """A ready worker. Raises MediaError when there is none in time."""
        ...


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What every call of a gateway is told."""

    media_address: str
    bind_address: str
    rtp_timeout_s: float = 30.0
    video_kbps: int = 1500
    worker_limit_s: float = 5.0
    join_limit_s: float = 10.0
    answer_limit_s: float = 32.0
    """For the answer to a delayed offer."""
    info_interval_s: float = 1.0
    """The shortest time between two key frame requests by INFO."""
    media_check_s: float = 2.0


@dataclass(frozen=True, slots=True)
class CallTools:
    """What a call works with."""

    workers: Workers
    driver: Driver
    ports: PortPairs
    metrics: GatewayMetrics
    settings: CallSettings


class CallFailed(Exception):
    """The call can't be set up."""

    def __init__(self, reason: EndReason, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status or reason.status


class Call:
    """One call. :meth:`run` lives as long as it does."""

    def __init__(self, tools: CallTools, incoming: IncomingCall) -> None:
        self._tools = tools
        self._settings = tools.settings
        self._incoming = incoming
        self._log = log.bind(call=incoming.call_id)
        self.call_id = incoming.call_id
        self.room = caller.room_name(incoming.user) or ""
        self.display_name = caller.display_name(incoming.display_name, incoming.caller_user)
        self.started = time.monotonic()
        self.answered_at: float | None = None
        self.dtmf_digits = 0
        self._end: asyncio.Future[tuple[EndReason, str, int]] = asyncio.get_running_loop().create_future()
        self._media_answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._worker: MediaWorker | None = None
        self._session: Session | None = None
        self._peer_states: list[tuple[str, str]] = []
        self.dialog: SipDialog | None = None
        self._held_ports: list[int] = []
        self.released = False
        """Its worker and ports are free again; only the BYE may still be under way."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._keyframe_info = asyncio.Event()
        incoming.on_cancel = lambda: self.finish(EndReason.CANCELLED)

    @property
    def worker_pid(self) -> int | None:
        """The process id of its media worker; None while it has none."""
        return self._worker.pid if self._worker is not None else None

    def finish(self, reason: EndReason, detail: str = "", status: int | None = None) -> None:
        """End the call; the first reason counts."""
        if not self._end.done():
            self._end.set_result((reason, detail, status or reason.status))

    async def run(self) -> EndReason:
        """The whole life. Never raises but for cancellation; cleans up either way."""
        setting_up = asyncio.create_task(self._set_up())
        both: set[asyncio.Future[Any]] = {setting_up, self._end}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if setting_up.done():
                self._judge(setting_up)
            reason, detail, status = await self._end
        except asyncio.CancelledError:
            reason, detail, status = EndReason.SHUTDOWN, "", EndReason.SHUTDOWN.status
            raise
        finally:
            if not self._end.done():
                self._end.set_result((reason, detail, status))
            setting_up.cancel()
            await asyncio.wait((setting_up,))
            await self._clean_up(reason, detail, status)
        return reason

    def _judge(self, setting_up: asyncio.Task[None]) -> None:
        error = setting_up.exception()
        if isinstance(error, CallFailed):
            self.finish(error.reason, str(error), error.status)
        elif isinstance(error, SdpError):
            self.finish(EndReason.BAD_OFFER, str(error), error.status)
        elif isinstance(error, MediaError):
            self.finish(EndReason.MEDIA_FAILED, str(error))
        elif error is not None:
            self._log.error("call set-up failed", exc_info=error)
            self.finish(EndReason.INTERNAL_ERROR, type(error).__name__)

    # Set-up

    async def _set_up(self) -> None:
        if not self.room:
            raise CallFailed(EndReason.BAD_ROOM, "the user part of the Request-URI is no room name")
        self._take_ports()
        await self._take_worker()
        self._incoming.ring()
        if self._incoming.offer is None:
            media = await self._answer_with_an_offer()
            await self._start_media(media)
            await self._join(media)
            return
        sdp, media = self._negotiation.answer(self._incoming.offer)
        await self._start_media(media)
        await self._join(media)
        self._accept(sdp)

    def _take_ports(self) -> None:
        try:
            for _ in range(2):
                self._held_ports.append(self._tools.ports.take())
        except PortsExhausted as error:
            raise CallFailed(EndReason.BUSY, str(error)) from error
        self._negotiation = Negotiation(
            LocalMedia(
                address=self._settings.media_address,
                bind_address=self._settings.bind_address,
                audio_port=self._held_ports[0],
                video_port=self._held_ports[1],
                video_kbps=self._settings.video_kbps,
                session_id=int(time.time()),
            )
        )

    async def _take_worker(self) -> None:
        events = WorkerEvents(
            exited=lambda how: self.finish(EndReason.WORKER_CRASHED, how),
            keyframe_wanted=self._keyframe_info.set,
            rtp_timeout=lambda: self.finish(EndReason.RTP_TIMEOUT),
            connection=self._connection,
            dtmf=self._dtmf,
            channel=self._channel,
        )
        try:
            self._worker = await self._tools.workers.acquire(events, self._settings.worker_limit_s)
        except MediaError as error:
            raise CallFailed(EndReason.NO_WORKER, str(error)) from error

    async def _answer_with_an_offer(self) -> SipMedia:
        """A delayed offer: ours is in the 200, the answer comes in the ACK."""
        self._accept(self._negotiation.offer())
        try:
            async with asyncio.timeout(self._settings.answer_limit_s):
                return self._negotiation.answered(await self._media_answer)
        except TimeoutError as error:
            raise CallFailed(EndReason.NO_ACK, "no answer to our offer in an ACK") from error

    async def _start_media(self, media: SipMedia) -> None:
        assert self._worker is not None
        await self._worker.start_sip(media, self._settings.rtp_timeout_s)

    async def _join(self, media: SipMedia) -> None:
        assert self._worker is not None
        who = Participant(self.room, self.display_name, media.audio is not None, media.video is not None)
        if media.video is None:
            self._negotiation.refuse_video()
        try:
            async with asyncio.timeout(self._settings.join_limit_s):
                self._session = await self._tools.driver.join(who, self._worker, self._conference_ended)
        except RoomRefused as error:
            raise CallFailed(EndReason.ROOM_REFUSED, str(error), error.status) from error
        except ConferenceUnavailable as error:
            raise CallFailed(EndReason.CONFERENCE_UNAVAILABLE, str(error)) from error
        except TimeoutError as error:
            limit = f"the conference did not answer within {self._settings.join_limit_s:g} s"
            raise CallFailed(EndReason.CONFERENCE_TIMEOUT, limit) from error
        for peer, state in self._peer_states:
            self._session.peer_state(peer, state)
        self._peer_states.clear()

    def _accept(self, sdp: str) -> None:
        events = DialogEvents(
            bye=lambda: self.finish(EndReason.HANGUP),
            info=self._info,
            offer=self._offer,
            answer=self._answer,
            expired=lambda: self._spawn_check(EndReason.SESSION_EXPIRED),
            ack_timeout=lambda: self._spawn_check(EndReason.NO_ACK),
        )
        self.dialog = self._incoming.accept(sdp, events)
        if self.dialog is None:
            self.finish(EndReason.CANCELLED)
            return
        self.answered_at = time.monotonic()
        setup_s = self.answered_at - self.started
        self._tools.metrics.setup.observe(setup_s)
        self._log.info("call answered", room=self.room, name=self.display_name, setup_s=round(setup_s, 3))
        self._spawn(self._send_keyframe_infos(self.dialog))

    # What happens in the call

    def _conference_ended(self, why: str) -> None:
        self.finish(EndReason.CONFERENCE_ENDED, why)

    def _connection(self, peer: str, state: str) -> None:
        if self._session is None:
            self._peer_states.append((peer, state))
        else:
            self._session.peer_state(peer, state)

    def _channel(self, peer: str, text: str | None) -> None:
        if self._session is not None:
            self._session.channel(peer, text)

    def _dtmf(self, digit: str) -> None:
        self.dtmf_digits += 1
        if self._session is not None:
            self._session.digit(digit)

    async def _offer(self, offer: str | None) -> str:
        if self._session is None or self._worker is None:
            raise OfferRefused(491, "Request Pending")
        if offer is None:
            return self._negotiation.offer()
        try:
            sdp, media = self._negotiation.answer(offer)
            await self._start_media(media)
        except SdpError as error:
            self._log.info("re-INVITE refused", error=str(error))
            raise OfferRefused(error.status, str(error)) from error
        except MediaError as error:
            self.finish(EndReason.MEDIA_FAILED, str(error))
            raise OfferRefused(500, "Server Internal Error") from error
        return sdp

    def _answer(self, sdp: str) -> None:
        if self._session is None:
            if not self._media_answer.done():
                self._media_answer.set_result(sdp)
        else:
            self._spawn(self._take_answer(sdp))

    async def _take_answer(self, sdp: str) -> None:
        try:
            await self._start_media(self._negotiation.answered(sdp))
        except SdpError as error:
            self.finish(EndReason.BAD_OFFER, str(error))
        except MediaError as error:
            self.finish(EndReason.MEDIA_FAILED, str(error))

    def _info(self, content_type: str, body: bytes) -> int:
        if content_type == caller.FAST_UPDATE_TYPE:
            if caller.wants_keyframe(body) and self._worker is not None:
                self._spawn(self._ask_for_keyframe(self._worker))
            return 200
        if content_type in ("application/dtmf-relay", "application/dtmf"):
            if (digit := caller.dtmf_signal(content_type, body)) is None:
                return 400
            self._dtmf(digit)
            return 200
        return 415 if body else 200

    async def _ask_for_keyframe(self, worker: MediaWorker) -> None:
        with contextlib.suppress(MediaError):
            await worker.send_keyframe()

    async def _send_keyframe_infos(self, dialog: SipDialog) -> None:
        """The conference's key frame requests as INFO (RFC 5168), not faster than the settings say."""
        while True:
            await self._keyframe_info.wait()
            self._keyframe_info.clear()
            status = await dialog.info(caller.FAST_UPDATE_TYPE, caller.FAST_UPDATE)
            if status in (408, 503):
                self._tools.metrics.undelivered.labels("INFO").inc()
            elif status in (405, 415, 489, 501):
                self._log.info("terminal takes no key frame requests by INFO", status=status)
                return
            await asyncio.sleep(self._settings.info_interval_s)

    def _spawn_check(self, reason: EndReason) -> None:
        self._spawn(self._end_unless_media_flows(reason))

    async def _end_unless_media_flows(self, reason: EndReason) -> None:
        """Signalling seems dead; that may be the proxy's failover, and media says whether the call is."""
        before = await self._received_packets()
        await asyncio.sleep(self._settings.media_check_s)
        if await self._received_packets() == before:
            self.finish(reason)
        else:
            self._log.warning("call goes on: it has media", instead_of=reason.value)

    async def _received_packets(self) -> int:
        if self._worker is None:
            return 0
        try:
            stats = await self._worker.stats()
        except MediaError:
            return 0
        return stats.audio_in.packets + stats.video_in.packets

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The end

    async def _clean_up(self, reason: EndReason, detail: str, status: int) -> None:
        for task in self._tasks:
            task.cancel()
        self._incoming.reject(status)
        lasted = time.monotonic() - self.answered_at if self.answered_at is not None else 0.0
        self._tools.metrics.ended.labels(reason.value).inc()
        if self.answered_at is not None:
            self._tools.metrics.duration.observe(lasted)
        self._log.info("call ended", reason=reason.value, detail=detail, lasted_s=round(lasted, 1))
        saying_bye = asyncio.create_task(self._say_bye(reason))
        if self._session is not None:
            await self._session.leave()
        if self._worker is not None:
            await self._worker.close()
        for port in self._held_ports:
            self._tools.ports.give_back(port)
        self.released = True
        await saying_bye

    async def _say_bye(self, reason: EndReason) -> None:
        if self.dialog is None or reason is EndReason.HANGUP:
            return
        status = await self.dialog.bye()
        if status in (408, 503):
            self._tools.metrics.undelivered.labels("BYE").inc()
            self._log.warning("BYE not delivered", status=status)
