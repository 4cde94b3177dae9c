"""The scaler's HTTP API, version 1: for operators, and for other scalers that copy its journal.

Inside of the stack's network it is plain HTTP, and a standby names the leader to who has a command for
it. To the outside it is served over HTTPS, by the key that is derived from the master secret. From there
perhaps only this scaler can be reached: it asks the leader itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import get_args

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from sipmediadeploy.protocol.client import AgentError
from sipmediadeploy.protocol.http_server import has_token, json_answer, running, serving
from sipmediadeploy.protocol.scaler import (
    API_PORT,
    SCALER_PORT,
    Answer,
    Command,
    Request,
    ScalerAway,
    ScalerClient,
    ScalerError,
    Trail,
    newest,
)
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.scaler.commands import Commands, Refused
from sipmediadeploy.scaler.door import Door
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.stack import Role

COPY_S = 2.0
WRONG_TOKEN_S = 1.0
"""So long who comes from outside with a wrong token waits for the answer."""
_MAX_BODY = 16_384
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """What the API answers from."""

    scaler: Scaler
    journal: Journal
    metrics: Callable[[], bytes]
    """For Prometheus."""
    now: Callable[[], Awaitable[StackNow]]
    """Looks at the stack."""
    logs: Callable[[ReplicaRecord, int], Awaitable[str]]
    """Asks a replica's agent for the last lines of each of its services' logs. Raises AgentError."""


@dataclass(frozen=True, slots=True)
class Outside:
    """By what the API is reached from outside, and reaches the leader."""

    door: Door
    others: ScalerClient


@contextlib.asynccontextmanager
async def served(sources: Sources, address: str, token: str, port: int = SCALER_PORT) -> AsyncIterator[None]:
    """Serve the API inside of the stack's network meanwhile, on ``address``, to who has the ``token``.

    Raises:
        OSError: it can't be bound.
    """
    async with serving(make_app(sources, token, port), address, port):
        yield


@contextlib.asynccontextmanager
async def served_outside(
    sources: Sources, token: str, outside: Outside, port: int = API_PORT
) -> AsyncIterator[None]:
    """Serve it over HTTPS on all addresses meanwhile, to who has the ``token``.

    Raises:
        OSError: it can't be bound.
    """
    async with running(make_app(sources, token, port, outside)) as runner:
        server = runner.server
        assert server is not None
        async with outside.door.open(port, server):
            yield


def make_app(sources: Sources, token: str, port: int, outside: Outside | None = None) -> web.Application:
    """The API at ``port``; without ``outside``: that inside of the stack's network."""
    scaler, journal = sources.scaler, sources.journal
    commands = Commands(scaler, journal)

    @web.middleware
    async def authenticate(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not has_token(request, token):
            if outside is not None:
                await asyncio.sleep(WRONG_TOKEN_S)
            return web.Response(status=401, text="a bearer token is needed: that of the stack's operators")
        if outside is not None:
            outside.door.know(request.transport)
        return await handler(request)

    async def view(_request: web.Request) -> web.Response:
        leader = None if scaler.lease.leads else _leader(scaler)
        if outside is not None and leader is not None:
            with contextlib.suppress(ScalerError):  # this scaler has something to say, too
                return json_answer(await outside.others.view(str(leader.address)))
        return json_answer(scaler.view())

    async def stack(_request: web.Request) -> web.Response:
        return json_answer(await sources.now())

    async def events(request: web.Request) -> web.Response:
        trail = journal.after(request.query.get("boot", ""), _number(request, "after"))
        if last := _number(request, "last"):
            trail = trail.model_copy(update={"entries": newest(trail.entries, last)})
        return json_answer(trail)

    async def command(request: web.Request) -> web.Response:
        what = request.match_info["command"]
        try:
            target = Request.model_validate_json(await request.read()).target
        except ValidationError:
            return web.Response(status=400, text="the body is no request")
        if scaler.lease.leads:
            try:
                return json_answer(Answer(text=await commands.run(what, target)))
            except Refused as e:
                return web.Response(status=409, text=str(e))
        leader = _leader(scaler)
        if leader is None:
            return web.Response(status=503, text="no scaler leads just now: try again in some seconds")
        if outside is not None:
            return await _ask(outside.others, leader, what, target)
        location = f"http://{leader.address}:{port}{request.path}"
        return web.Response(status=307, headers={"Location": location})

    async def logs(request: web.Request) -> web.Response:
        try:
            replica = commands.replica(request.query.get("replica", ""))
        except Refused as e:
            return web.Response(status=409, text=str(e))
        try:
            return web.Response(text=await sources.logs(replica, _number(request, "lines")))
        except AgentError as e:
            return web.Response(status=502, text=f"the agent of {replica.name} gives no logs: {e}")

    async def counted(_request: web.Request) -> web.Response:
        return web.Response(body=sources.metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[authenticate], client_max_size=_MAX_BODY)
    app.router.add_get("/v1/scaler", view)
    app.router.add_get("/v1/stack", stack)
    app.router.add_get("/v1/events", events)
    app.router.add_get("/v1/logs", logs)
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


def _number(request: web.Request, name: str) -> int:
    """A number of the query; 0: it is not there, or is none."""
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _leader(scaler: Scaler) -> ReplicaRecord | None:
    """The scaler that leads, when it is another one and known."""
    leader = next((r for r in scaler.records if r.name == scaler.lease.leader), None)
    return None if leader is None or leader.name == scaler.own_name else leader


async def _ask(others: ScalerClient, leader: ReplicaRecord, what: str, target: str) -> web.Response:
    """What the leader answers to a command."""
    command = next((one for one in get_args(Command) if one == what), None)
    if command is None:
        return web.Response(status=409, text=f"there is no command {what}")
    try:
        return json_answer(Answer(text=await others.command(str(leader.address), command, target)))
    except ScalerAway as e:
        return web.Response(status=503, text=f"the leader, {leader.name}: {e}")
    except ScalerError as e:
        return web.Response(status=409, text=str(e))
