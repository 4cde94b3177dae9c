"""The scaler's HTTP API, version 1: for operators, and for other scalers that copy its journal."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from sipmediadeploy.protocol.scaler import (
    SCALER_PORT,
    Answer,
    Request,
    ScalerClient,
    ScalerError,
    Trail,
    View,
)
from sipmediadeploy.scaler.commands import Commands, Refused
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.stack import Role

COPY_S = 2.0
_MAX_BODY = 65_536
_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def served(
    scaler: Scaler,
    journal: Journal,
    metrics: Callable[[], bytes],
    address: str,
    token: str,
    port: int = SCALER_PORT,
) -> AsyncIterator[None]:
    """Serve the API on ``address`` meanwhile, to those who have the ``token``; ``metrics``: for Prometheus.

    Raises:
        OSError: it can't be bound.
    """
    app = make_app(scaler, journal, metrics, token, port)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
        yield
    finally:
        await runner.cleanup()


def make_app(
    scaler: Scaler, journal: Journal, metrics: Callable[[], bytes], token: str, port: int
) -> web.Application:
    """The API of ``scaler``."""
    wanted = f"Bearer {token}".encode()
    commands = Commands(scaler, journal)

    @web.middleware
    async def authenticate(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, wanted):
            return web.Response(status=401, text="a bearer token is needed: that of the stack's operators")
        return await handler(request)

    async def view(_request: web.Request) -> web.Response:
        return _json(scaler.view())

    async def events(request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        position = int(after) if after.isascii() and after.isdigit() and len(after) < 12 else 0
        return _json(journal.after(request.query.get("boot", ""), position))

    async def command(request: web.Request) -> web.Response:
        if not scaler.lease.leads:
            leader = next((r for r in scaler.records if r.name == scaler.lease.leader), None)
            if leader is None or leader.name == scaler.own_name:
                return web.Response(status=503, text="no scaler leads just now: try again in some seconds")
            location = f"http://{leader.address}:{port}{request.path}"
            return web.Response(status=307, headers={"Location": location})
        try:
            body = Request.model_validate_json(await request.read())
            return _json(Answer(text=await commands.run(request.match_info["command"], body.target)))
        except ValidationError:
            return web.Response(status=400, text="the body is no request")
        except Refused as e:
            return web.Response(status=409, text=str(e))

    async def counted(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[authenticate], client_max_size=_MAX_BODY)
    app.router.add_get("/v1/scaler", view)
    app.router.add_get("/v1/events", events)
    app.router.add_get("/metrics", counted)
    app.router.add_post("/v1/{command}", command)
    return app


async def copy_journals(scaler: Scaler, journal: Journal, client: ScalerClient) -> None:
    """Copy what the other scalers write, for ever: any of them may be gone when it is asked for."""
    seen: dict[str, tuple[str, int]] = {}
    while True:
        for record in scaler.records:
            if record.role is not Role.SCALER or record.name == scaler.own_name:
                continue
            boot, position = seen.get(record.id, ("", 0))
            try:
                trail: Trail = await client.events(str(record.address), boot, position)
            except ScalerError as e:
                _log.debug("journal not copied", scaler=record.name, error=str(e))
                continue
            journal.copy(trail.entries)
            seen[record.id] = trail.boot, trail.position
        await asyncio.sleep(COPY_S)


def _json(message: View | Trail | Answer) -> web.Response:
    return web.Response(text=message.model_dump_json(), content_type="application/json")
