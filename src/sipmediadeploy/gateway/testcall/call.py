"""The life of one test call: place it, report each second, hang up, judge."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace

from sipmediadeploy.gateway.media.api import SipMedia
from sipmediadeploy.gateway.sip.api import CallRefused, Dialog, DialogEvents, Hop, OfferRefused
from sipmediadeploy.gateway.sip.sdp import LocalMedia, SdpError, answer_offer, make_offer, read_answer
from sipmediadeploy.gateway.sip.ua import UserAgent
from sipmediadeploy.gateway.testcall import report
from sipmediadeploy.gateway.testcall.elements import Clip, check, encode_file, encode_pattern
from sipmediadeploy.gateway.testcall.media import Media, MediaFailed, Ports
from sipmediadeploy.gateway.testcall.options import Options
from sipmediadeploy.gateway.testcall.report import Second, Summary

_FAST_UPDATE = "application/media_control+xml"


class CallFailed(Exception):
    """There was no call; ``status`` is the SIP status code, when there was one."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class _Times:
    """Times of the call, by the monotonic clock unless they say otherwise."""

    invited: float = 0.0
    invited_at: float = 0.0
    """By the wall clock, in seconds since the epoch, for others who saw the call begin."""
    answered: float = 0.0


class TestCall:
    """One call."""

    __test__ = False  # Its name must not make pytest collect it.

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stop = asyncio.Event()
        self._reinvite = asyncio.Event()
        self._ended_by = "here"
        self._times = _Times()
        self._dialog: Dialog | None = None
        self._media: Media | None = None
        self._local: LocalMedia | None = None
        self._description = ""
        self._bye_status: int | None = None

    async def run(self) -> list[str]:
        """The whole call, with its output; returns the problems found.

        Raises:
            CallFailed: it could not be placed, or this side's media failed.
        """
        options = self._options
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._reinvite.set)
        check(options)
        clip = await _clip(options)
        address = options.local or _own_address(options.proxy)
        try:
            audio = Ports.bind(address)
            video = Ports.bind(address) if options.video else None
            agent = UserAgent(address, options.source_port)
            await agent.start()
        except OSError as error:
            raise CallFailed(f"can't use {address}: {error}") from error
        self._media = Media(options, clip, audio, video)
        self._local = LocalMedia(
            address, address, audio.port, video.port if video else None, options.codecs, options.kbps
        )
        try:
            negotiated = await self._place(agent)
            self._media.start(negotiated)
            summary = await self._watch()
        except MediaFailed as error:
            raise CallFailed(f"media: {error}") from error
        finally:
            await self._hang_up()
            self._media.stop()
            await agent.stop()
        summary = replace(summary, bye_status=self._bye_status)
        self._say(report.summary_json(summary, options.video), report.summary_text(summary, options.video))
        return report.problems(summary, options.video)

    async def _place(self, agent: UserAgent) -> SipMedia:
        """INVITE until answered or told to stop."""
        options, local = self._options, self._local
        assert local is not None
        self._description = make_offer(local)
        events = DialogEvents(bye=self._on_bye, info=self._on_info, offer=self._on_offer)
        self._say(
            report.event_json("calling", uri=options.uri, local=local.address),
            f"Calling {options.uri} from {local.address} ...",
        )
        self._times.invited, self._times.invited_at = time.monotonic(), time.time()
        placing = asyncio.create_task(
            agent.place(
                options.uri,
                proxy=options.proxy,
                offer=self._description,
                events=events,
                from_user="testcall",
                display_name=options.name,
            )
        )
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({placing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not placing.done():
            placing.cancel()
            with contextlib.suppress(asyncio.CancelledError, CallRefused):
                # An answer that crossed the cancellation still has to be ended.
                self._dialog = await placing
            raise CallFailed("hung up before the call was answered")
        try:
            self._dialog = placing.result()
            negotiated = read_answer(self._dialog.remote_sdp, local, self._description)
        except CallRefused as refused:
            raise CallFailed(f"the call was refused: {refused}", refused.status) from refused
        except SdpError as error:
            raise CallFailed(f"the answer can't be used: {error}") from error
        self._times.answered = time.monotonic()
        self._say_answered(negotiated)
        return negotiated

    async def _watch(self) -> Summary:
        """Report each second until the end."""
        options, media = self._options, self._media
        assert media is not None
        start = self._times.answered
        end = start + options.seconds if options.seconds is not None else None
        last = Second(0)
        while not self._stop.is_set():
            due = start + last.t + 1
            wait = (due if end is None else min(due, end)) - time.monotonic()
            await self._wait_for_event(wait)
            if self._reinvite.is_set():
                self._reinvite.clear()
                await self._send_reinvite()
            now = time.monotonic()
            over = self._stop.is_set() or (end is not None and now >= end)
            # A second that was cut short says little: the one before stands as the last, if there is one.
            if now >= due or (over and (last.t == 0 or now >= due - 0.5)):
                # Pictures and sound are looked at beside the loop: SIP is answered meanwhile.
                last = await asyncio.to_thread(media.second, int(now - start + 0.5))
                self._say(report.second_json(last), report.second_text(last, options.video))
            if over:
                break
        if options.snapshot is not None:
            self._snapshot()
        return self._summary(last)

    async def _wait_for_event(self, seconds: float) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, self._reinvite)]
        await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _summary(self, last: Second) -> Summary:
        media, times = self._media, self._times
        assert media is not None
        now = time.monotonic()
        eye, ear = media.eye, media.ear

        def since(moment: float | None) -> int | None:
            return None if moment is None else round((moment - times.invited) * 1000)

        return Summary(
            seconds=round(now - times.answered, 1),
            invited_at=round(times.invited_at, 3),
            connected_ms=since(times.answered),
            first_frame_ms=since(eye.arrivals.first) if eye else None,
            first_sound_ms=since(ear.first_sound) if ear else None,
            frames=eye.frames if eye else 0,
            longest_video_gap_ms=round(eye.arrivals.gap_until(now) * 1000) if eye else 0,
            longest_audio_gap_ms=round(ear.arrivals.gap_until(now) * 1000) if ear else 0,
            ended_by=self._ended_by,
            decoding=self._options.decode,
            last=last,
        )

    async def _send_reinvite(self) -> None:
        """Offer the same media again; the call goes on whatever the answer."""
        assert self._dialog is not None
        assert self._local is not None
        assert self._media is not None
        began = time.monotonic()
        status = 200
        self._local = replace(self._local, version=self._local.version + 1)
        offer = make_offer(self._local, self._description)
        try:
            answer = await self._dialog.reinvite(offer)
            self._media.retarget(read_answer(answer, self._local, offer))
            self._description = offer
        except CallRefused as refused:
            status = refused.status
        except SdpError as error:
            status = error.status
        took = round((time.monotonic() - began) * 1000)
        self._say(
            report.event_json("reinvited", status=status, ms=took), f"re-INVITE: {status} after {took} ms"
        )

    async def _hang_up(self) -> None:
        if self._dialog is not None and self._ended_by == "here" and self._bye_status is None:
            self._bye_status = await self._dialog.bye()

    def _on_bye(self) -> None:
        self._ended_by = "peer"
        self._stop.set()

    def _on_info(self, content_type: str, body: bytes) -> int:
        if content_type == _FAST_UPDATE and b"picture_fast_update" in body and self._media is not None:
            self._media.force_keyframe()
            return 200
        return 415

    async def _on_offer(self, offer: str | None) -> str:
        if self._local is None or self._media is None:
            raise OfferRefused(500, "Not Ready")
        self._local = replace(self._local, version=self._local.version + 1)
        if offer is None:
            self._description = make_offer(self._local, self._description)
            return self._description
        try:
            self._description, negotiated = answer_offer(offer, self._local)
        except SdpError as error:
            raise OfferRefused(error.status, "Not Acceptable Here") from error
        self._media.retarget(negotiated)
        self._say(report.event_json("offered"), "The other side sent a re-INVITE.")
        return self._description

    def _snapshot(self) -> None:
        assert self._media is not None
        path = self._options.snapshot
        assert path is not None
        try:
            saved = self._media.save_picture(path)
        except OSError as error:
            self._say(report.event_json("snapshot", error=str(error)), f"No snapshot: {error}")
            return
        if saved:
            self._say(report.event_json("snapshot", path=str(path)), f"The last picture is in {path}.")

    def _say_answered(self, negotiated: SipMedia) -> None:
        took = round((self._times.answered - self._times.invited) * 1000)
        audio, video = negotiated.audio, negotiated.video
        parts = [f"{audio.codec} with {audio.remote_address}:{audio.remote_port}" if audio else "no sound"]
        if self._options.video:
            parts.append(f"H.264 with {video.remote_address}:{video.remote_port}" if video else "no picture")
        self._say(
            report.event_json(
                "answered",
                ms=took,
                invited_at=round(self._times.invited_at, 3),
                audio=audio.codec if audio else None,
                video="H264" if video else None,
                audio_to=f"{audio.remote_address}:{audio.remote_port}" if audio else None,
                video_to=f"{video.remote_address}:{video.remote_port}" if video else None,
            ),
            f"Answered after {took} ms: {', '.join(parts)}.",
        )

    def _say(self, as_json: str, as_text: str) -> None:
        print(as_json if self._options.json else as_text, flush=True)


async def _clip(options: Options) -> Clip | None:
    """What is encoded before the call."""
    if options.file is not None:
        return await asyncio.to_thread(encode_file, options)
    if options.preencoded and options.video:
        return await asyncio.to_thread(encode_pattern, options)
    return None


def _own_address(proxy: Hop) -> str:
    """The address that leads to the proxy. Raises CallFailed."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((proxy.host, proxy.port))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise CallFailed(f"no way to {proxy.host}: {error}") from error


def complain(options: Options, reason: str, status: int | None) -> None:
    """Say why there was no call."""
    if options.json:
        print(report.event_json("error", message=reason, status=status), flush=True)
    print(f"testcall: {reason}", file=sys.stderr, flush=True)
