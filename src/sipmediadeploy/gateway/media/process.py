"""A media worker process as the server sees it: spawns it, speaks to it, notices its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import structlog

from sipmediadeploy.gateway.media import wire
from sipmediadeploy.gateway.media.api import IceServers, MediaError, MediaStats, SipMedia, WorkerEvents

log = structlog.get_logger()

START_LIMIT_S = 20.0
REQUEST_LIMIT_S = 5.0
NEGOTIATION_LIMIT_S = 15.0
"""Creating a description includes gathering candidates, which a silent TURN server makes slow."""
CLOSE_LIMIT_S = 2.0


class WorkerProcess:
    """One worker process; made by :meth:`spawn`, used by one call through ``MediaWorker``'s methods."""

    def __init__(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._events: WorkerEvents | None = None
        self._ready = asyncio.Event()
        self._fatal: str | None = None
        self._end: str | None = None
        self._closing = False
        self._reader_task: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls) -> WorkerProcess:
        """Start a process and wait until it is ready for a call.

        Raises:
            MediaError: it ended, or was not ready within :data:`START_LIMIT_S`.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sipmediadeploy.gateway.media.worker",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            raise MediaError(f"cannot start a media worker: {error}") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=wire.LINE_LIMIT)
        worker = cls(process, writer)
        worker._reader_task = asyncio.create_task(worker._read(reader))
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await worker._ready.wait()
        except TimeoutError:
            worker._end = worker._end or f"not ready within {START_LIMIT_S:.0f} s"
        except asyncio.CancelledError:
            await worker.close()
            raise
        if worker._end is not None:
            await worker.close()
            raise MediaError(f"media worker: {worker._end}")
        return worker

    def attach(self, events: WorkerEvents) -> None:
        """Report to ``events`` from now on; a process that has ended already is reported at once."""
        self._events = events
        if self._end is not None:
            asyncio.get_running_loop().call_soon(events.exited, self._end)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self._end is None

    async def start_sip(self, media: SipMedia, rtp_timeout_s: float) -> None:
        """Start or change the SIP side."""
        await self._request(
            "start_sip", {"media": wire.sip_media_to_wire(media), "rtp_timeout_s": rtp_timeout_s}
        )

    async def create_peer(self, peer: str, ice: IceServers, *, send: bool) -> None:
        """Create a peer connection."""
        await self._request("create_peer", {"peer": peer, "ice": asdict(ice), "send": send})

    async def open_channel(self, peer: str, label: str, protocol: str) -> None:
        """Have a data channel."""
        await self._request("open_channel", {"peer": peer, "label": label, "protocol": protocol})

    async def send_channel(self, peer: str, text: str) -> None:
        """Send a message over the data channel."""
        await self._request("send_channel", {"peer": peer, "text": text})

    async def offer(self, peer: str, *, receive: bool = False) -> str:
        """A complete SDP offer."""
        return str(await self._request("offer", {"peer": peer, "receive": receive}, NEGOTIATION_LIMIT_S))

    async def set_answer(self, peer: str, sdp: str) -> None:
        """The remote answer."""
        await self._request("set_answer", {"peer": peer, "sdp": sdp}, NEGOTIATION_LIMIT_S)

    async def answer(self, peer: str, sdp: str) -> str:
        """A complete SDP answer."""
        return str(await self._request("answer", {"peer": peer, "sdp": sdp}, NEGOTIATION_LIMIT_S))

    async def add_candidate(self, peer: str, mline: int, candidate: str) -> None:
        """A trickled remote candidate."""
        await self._request("add_candidate", {"peer": peer, "mline": mline, "candidate": candidate})

    async def send_uplink(self, *, audio: bool, video: bool) -> None:
        """Hold sound or picture of the terminal back, or let it go out again."""
        await self._request("send_uplink", {"audio": audio, "video": video})

    async def video_switched(self) -> None:
        """The picture's source has changed."""
        await self._request("video_switched")

    async def show_video(self, ssrc: int | None) -> None:
        """Show one received video stream, or the newest."""
        await self._request("show_video", {"ssrc": ssrc})

    async def video_arrives(self) -> bool:
        """The stream to be shown brings something."""
        return bool(await self._request("video_arrives"))

    async def describe(self, title: str, lines: Sequence[str]) -> None:
        """What the drawn picture says."""
        await self._request("describe", {"title": title, "lines": list(lines)})

    async def say(self, file: str) -> None:
        """Play a sound file to the terminal."""
        await self._request("say", {"file": file})

    async def send_keyframe(self) -> None:
        """Ask the conference for a key frame."""
        await self._request("send_keyframe")

    async def close_peer(self, peer: str) -> None:
        """Close one peer connection."""
        await self._request("close_peer", {"peer": peer})

    async def stats(self) -> MediaStats:
        """Counters of the SIP side."""
        return wire.stats_from_wire(await self._request("stats"))

    async def close(self) -> None:
        """End the process: by closing its socket, then by SIGKILL."""
        self._closing = True
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reader_task is not None and self._reader_task is not asyncio.current_task():
            await asyncio.wait([self._reader_task])

    async def _request(
        self, name: str, given: wire.Message | None = None, limit_s: float = REQUEST_LIMIT_S
    ) -> Any:
        if self._end is not None or self._closing:
            raise MediaError(f"media worker has ended: {self._end or 'closed'}")
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(wire.line({"id": number, "do": name, "with": given or {}}))
        try:
            async with asyncio.timeout(limit_s):
                return await future
        except TimeoutError:
            raise MediaError(f"media worker did not finish {name} within {limit_s:.0f} s") from None
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while text := await reader.readline():
                self._take(wire.parse(text))
        except (OSError, ValueError) as error:
            self._fatal = self._fatal or f"broken protocol: {error}"
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None and not self._closing:
                await asyncio.sleep(0)
        self._finish(await self._ended())

    async def _ended(self) -> str:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                code = await self._process.wait()
        except TimeoutError:  # its socket is closed, it is not: of no use any more
            self._process.kill()
            code = await self._process.wait()
        if self._fatal is not None:
            return self._fatal
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def _finish(self, reason: str) -> None:
        self._end = self._end or reason
        self._ready.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(MediaError(f"media worker has ended: {self._end}"))
        self._writer.close()
        log.info("media_worker_ended", pid=self.pid, reason=self._end)
        if self._events is not None and not self._closing:
            self._events.exited(self._end)

    def _take(self, message: wire.Message) -> None:
        if "event" in message:
            self._take_event(message["event"], message["with"])
            return
        future = self._waiting.get(message["id"])
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(MediaError(message["error"]))
        else:
            future.set_result(message["ok"])

    def _take_event(self, name: str, arguments: list[Any]) -> None:
        if name == "ready":
            self._ready.set()
        elif name == "fatal":
            self._fatal = str(arguments[0])
        elif self._events is not None and not self._closing:
            callback: Callable[..., None] = getattr(self._events, name)
            callback(*arguments)
