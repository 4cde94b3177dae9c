"""The gateway's server process: ``python -m sipmediadeploy.gateway.server``.

Takes SIP calls on the replica's address, gives each a media worker and a place in its room, and answers the
agent on a Unix socket. SIGTERM ends the calls with a BYE, then the process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import structlog

from sipmediadeploy.gateway.call import Call, CallSettings, CallTools
from sipmediadeploy.gateway.conference.base import Driver
from sipmediadeploy.gateway.control import serve_control
from sipmediadeploy.gateway.media.pool import WorkerPool
from sipmediadeploy.gateway.metrics import GatewayMetrics
from sipmediadeploy.gateway.ports import PortPairs
from sipmediadeploy.gateway.reasons import EndReason
from sipmediadeploy.gateway.sip.incoming import IncomingCall
from sipmediadeploy.gateway.sip.ua import UserAgent
from sipmediadeploy.protocol.replica import PATH, GatewayService, ReplicaDocument, load_replica_document

log = structlog.get_logger(__name__)

CONTROL_SOCKET = Path("/run/smd/gateway.sock")
STATE_DIRECTORY = Path("/var/lib/smd")
SHUTDOWN_LIMIT_S = 5.0
READY_WORKERS = 2
"""Idle workers beside those in calls: a second call may come while the first one's successor starts."""
WORKER_GRACE_S = 5.0
"""After a burst of calls the pool may be empty for so long and the gateway be healthy all the same."""
COLLECT_EVERY_S = 5.0


class GatewayServer:
    """All calls of one gateway replica."""

    def __init__(
        self, document: ReplicaDocument, service: GatewayService, driver: Driver, state: Path
    ) -> None:
        self.capacity = service.capacity
        self._draining = False
        self._stopping = False
        self._retired_file = state / "gateway.retired"
        self._retired = self._retired_file.exists()
        self._ready_at = float("-inf")
        self._calls: dict[Call, asyncio.Task[EndReason]] = {}
        self._collecting: asyncio.Task[None] | None = None
        self._metrics = GatewayMetrics()
        self._pool = WorkerPool(max(1, min(READY_WORKERS, service.capacity)))
        self._driver = driver
        self._ua = UserAgent(
            str(document.address),
            service.sip_port,
            on_invite=self._on_invite,
            on_options=self._on_options,
        )
        settings = CallSettings(
            media_address=str(service.media_address),
            bind_address=str(document.address),
            rtp_timeout_s=service.rtp_timeout_s,
            video_kbps=service.video_kbps,
        )
        self._tools = CallTools(self._pool, driver, PortPairs(*service.rtp_ports), self._metrics, settings)
        self._watch()

    def _watch(self) -> None:
        watch = self._metrics.watch
        watch("smd_gateway_calls_active", "Calls now", lambda: self.active)
        watch("smd_gateway_capacity", "Call places", lambda: self.capacity)
        watch("smd_gateway_workers_ready", "Media workers that wait for a call", lambda: self._pool.ready)
        watch("smd_gateway_sip_malformed", "Messages that were no SIP", lambda: self._ua.malformed)
        watch(
            "smd_gateway_draining", "1 while it takes no new calls", lambda: self._draining or self._retired
        )

    @property
    def active(self) -> int:
        """Calls that hold a place."""
        return sum(not call.released for call in self._calls)

    async def start(self) -> None:
        """Take calls from now on.

        Raises:
            OSError: the SIP address can't be bound.
        """
        self._pool.start()
        await self._ua.start()
        self._collecting = asyncio.create_task(self._collect_garbage())
        log.info("gateway started", address=f"{self._ua.address}:{self._ua.port}", capacity=self.capacity)

    async def stop(self) -> None:
        """End all calls with a BYE, within :data:`SHUTDOWN_LIMIT_S`, and free everything."""
        self._stopping = True
        for call in self._calls:
            call.finish(EndReason.SHUTDOWN)
        if self._calls:
            await asyncio.wait(self._calls.values(), timeout=SHUTDOWN_LIMIT_S)
        for task in self._calls.values():
            task.cancel()
        await self._ua.stop()
        await self._pool.close()
        await self._driver.close()
        if self._collecting is not None:
            self._collecting.cancel()
        log.info("gateway stopped")

    async def _collect_garbage(self) -> None:
        """Free what calls left in reference cycles: closed WebSockets, each with 256 kB of TLS buffer.

        Python does it by itself, but counts objects, not bytes: after a dozen calls, or a hundred long ones.
        """
        while True:
            await asyncio.sleep(COLLECT_EVERY_S)
            gc.collect()

    # SIP

    def _on_options(self) -> int:
        """200 while the gateway does its job; a full one does. Free places are in ``/status``."""
        if self._draining or self._retired or self._stopping:
            return 503
        now = time.monotonic()
        if self._pool.ready:
            self._ready_at = now
        starting = self._pool.error is None and now - self._ready_at < WORKER_GRACE_S
        return 200 if self._pool.ready or starting else 503

    def _on_invite(self, incoming: IncomingCall) -> None:
        refusal: EndReason | None = None
        if self._draining or self._retired or self._stopping:
            refusal = EndReason.DRAINING
        elif self.active >= self.capacity:
            refusal = EndReason.BUSY
        if refusal is not None:
            incoming.reject(refusal.status)
            self._metrics.ended.labels(refusal.value).inc()
            log.info("call ended", call=incoming.call_id, reason=refusal.value, lasted_s=0.0)
            return
        call = Call(self._tools, incoming)
        task = asyncio.get_running_loop().create_task(call.run(), name=f"call {call.call_id}")
        self._calls[call] = task
        task.add_done_callback(lambda done: self._over(call, done))

    def _over(self, call: Call, task: asyncio.Task[EndReason]) -> None:
        self._calls.pop(call, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call not cleaned up", call=call.call_id, exc_info=error)

    # Control

    def status(self) -> dict[str, Any]:
        """See ``GET /status``."""
        return {
            "calls": self.active,
            "capacity": self.capacity,
            "ready_workers": self._pool.ready,
            "worker_error": self._pool.error,
            "draining": self._draining,
            "retired": self._retired,
        }

    def calls(self) -> list[dict[str, Any]]:
        """See ``GET /calls``."""
        now = time.monotonic()
        return [
            {
                "call_id": call.call_id,
                "room": call.room,
                "name": call.display_name,
                "worker_pid": call.worker_pid,
                "answered": call.answered_at is not None,
                "seconds": round(now - call.started, 1),
            }
            for call in self._calls
            if not call.released
        ]

    def metrics_text(self) -> bytes:
        """See ``GET /metrics``."""
        return self._metrics.text()

    def drain(self) -> None:
        """Take no new calls."""
        self._draining = True
        log.info("draining", calls=self.active)

    def undrain(self) -> bool:
        """Take calls again; False when retired."""
        if self._retired:
            return False
        self._draining = False
        log.info("draining ended", calls=self.active)
        return True

    def retire(self) -> None:
        """Never take a call again, not after a restart either.

        Raises:
            OSError: that can't be kept on disk; then it is not retired.
        """
        self._retired_file.parent.mkdir(parents=True, exist_ok=True)
        with self._retired_file.open("w") as file:
            file.write("retired\n")
            file.flush()
            os.fsync(file.fileno())
        self._retired = True
        log.info("retired", calls=self.active)


def load_driver(service: GatewayService, name: str) -> Driver:
    """The conference driver of the platform, by entry point.

    Raises:
        SystemExit: there is none.
    """
    platform = service.conference.platform
    known = {point.name: point for point in entry_points(group="sipmediadeploy.conference")}
    if platform not in known:
        raise SystemExit(
            f"no conference driver for {platform!r}; installed: {', '.join(sorted(known)) or 'none'}"
        )
    driver: Driver = known[platform].load()(service.conference, name)
    return driver


async def serve(document: ReplicaDocument, control: Path, state: Path) -> None:
    """Run until SIGTERM or SIGINT."""
    service = document.service
    if not isinstance(service, GatewayService):
        raise SystemExit(f"this replica is a {service.role.value}, not a gateway")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = GatewayServer(document, service, load_driver(service, document.name), state)
    gc.collect()
    gc.freeze()  # collections pass over what is there for good: 1 to 9 ms instead of 50
    async with contextlib.AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop)
        runner = await serve_control(server, control)
        stack.push_async_callback(runner.cleanup)
        await stop.wait()


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event", "call"], drop_missing=True
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sipmediadeploy.gateway.server", description=__doc__)
    parser.add_argument("--document", type=Path, default=PATH, help="the replica document")
    parser.add_argument("--control", type=Path, default=CONTROL_SOCKET, help="the control API's Unix socket")
    parser.add_argument("--state", type=Path, default=STATE_DIRECTORY, help="what is kept over restarts")
    arguments = parser.parse_args()
    _log_to_stderr()
    try:
        document = load_replica_document(arguments.document)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{arguments.document}: no usable replica document: {error}") from error
    try:
        asyncio.run(serve(document, arguments.control, arguments.state))
    except OSError as error:
        raise SystemExit(f"the gateway can't start on {document.address}: {error}") from error


if __name__ == "__main__":
    main()
