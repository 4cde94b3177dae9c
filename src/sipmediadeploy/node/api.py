"""The agent's HTTP API, version 1."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from sipmediadeploy import package_version
from sipmediadeploy.node.openapi import Operation, describe
from sipmediadeploy.node.roles.base import RoleError
from sipmediadeploy.node.state import NotYours, OlderTerm, StateError
from sipmediadeploy.protocol.agent import Gateways, Order, Status
from sipmediadeploy.protocol.http_server import has_token, json_answer
from sipmediadeploy.protocol.replica import ReplicaDocument

_ERRORS: dict[type[Exception], int] = {OlderTerm: 409, NotYours: 409, StateError: 507, RoleError: 503}
"""507: the order is in force but not kept on disk, or, for a retirement, not accepted."""
_REFUSALS = tuple(sorted(set(_ERRORS.values())))
_MAX_BODY = 1 << 20
"""Some thousand gateways."""

Model = TypeVar("Model", bound=BaseModel)


class Served(Protocol):
    """What the API needs of the agent."""

    document: ReplicaDocument
    restarts: dict[str, int]

    @property
    def address_taken(self) -> int: ...

    def status(self) -> Status: ...
    def logs(self, lines: int) -> list[str]: ...
    async def service_metrics(self) -> bytes: ...
    async def drain(self, order: Order) -> None: ...
    async def undrain(self, order: Order) -> None: ...
    async def retire(self, order: Order) -> None: ...
    async def set_gateways(self, gateways: Gateways) -> None: ...


class LogsQuery(BaseModel):
    """The query of ``GET /v1/logs``."""

    lines: int = Field(default=100, ge=1, le=10_000, description="of each service")


def make_api(agent: Served) -> web.Application:
    """The API of ``agent``; every path wants the replica's bearer token."""

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not has_token(request, agent.document.agent_token):
            return _refusal(401, "a bearer token is needed: the one of this replica")
        try:
            return await handler(request)
        except tuple(_ERRORS) as e:
            return _refusal(_ERRORS[type(e)], str(e))
        except _Invalid as e:
            return _refusal(422, e.detail)
        except web.HTTPException as e:
            return _refusal(e.status, e.reason, e.headers.get("Allow"))

    app = web.Application(middlewares=[guard], client_max_size=_MAX_BODY)
    for one in operations(agent):
        app.router.add_route(one.method, one.path, one.handler)
    return app


def operations(agent: Served) -> tuple[Operation, ...]:
    """All that the API of ``agent`` can be asked."""

    async def status(_request: web.Request) -> web.Response:
        """What the replica says of itself."""
        return json_answer(agent.status())

    async def drain(request: web.Request) -> web.Response:
        """Take no new work."""
        await agent.drain(await _body(request, Order))
        return json_answer(agent.status())

    async def undrain(request: web.Request) -> web.Response:
        """Take new work again."""
        await agent.undrain(await _body(request, Order))
        return json_answer(agent.status())

    async def retire(request: web.Request) -> web.Response:
        """Never take new work again, also after a restart."""
        await agent.retire(await _body(request, Order))
        return json_answer(agent.status())

    async def gateways(request: web.Request) -> web.Response:
        """Kamailio: use these gateways. An older term than the newest seen: 409."""
        await agent.set_gateways(await _body(request, Gateways))
        return json_answer(agent.status())

    async def logs(request: web.Request) -> web.Response:
        """The last lines of each service's log."""
        lines = _query(request, LogsQuery).lines
        # In a thread: a large journal takes its time, and the agent must not stand still for it.
        told = await asyncio.to_thread(agent.logs, lines)
        return web.Response(text="".join(f"{line}\n" for line in told))

    async def metrics(_request: web.Request) -> web.Response:
        """For Prometheus."""
        # Imported here, as many are never asked for it: each module stays in a replica's memory.
        from sipmediadeploy.node.metrics import CONTENT_TYPE, metrics_text

        text = metrics_text(agent.status(), agent.restarts, agent.address_taken)
        return web.Response(body=text + await agent.service_metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(_request: web.Request) -> web.Response:
        """This description."""
        return web.json_response(description())

    @cache
    def description() -> dict[str, object]:
        return describe(offered, "SIPMediaDeploy agent", package_version())

    offered = (
        Operation("GET", "/v1/status", status, Status),
        Operation("POST", "/v1/drain", drain, Status, Order, refusals=_REFUSALS),
        Operation("POST", "/v1/undrain", undrain, Status, Order, refusals=_REFUSALS),
        Operation("POST", "/v1/retire", retire, Status, Order, refusals=_REFUSALS),
        Operation("PUT", "/v1/gateways", gateways, Status, Gateways, refusals=_REFUSALS),
        Operation("GET", "/v1/logs", logs, "text/plain", query=LogsQuery),
        Operation("GET", "/metrics", metrics, "text/plain"),
        Operation("GET", "/v1/openapi.json", openapi, "application/json"),
    )
    return offered


class _Invalid(Exception):
    """A body or a query that can't be understood."""

    def __init__(self, place: str, error: ValidationError) -> None:
        self.detail = [
            {"type": one["type"], "loc": [place, *one["loc"]], "msg": one["msg"]}
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        """In the shape of ``HTTPValidationError`` of the description; what was sent is not repeated."""


async def _body(request: web.Request, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as e:
        raise _Invalid("body", e) from None


def _query(request: web.Request, model: type[Model]) -> Model:
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as e:
        raise _Invalid("query", e) from None


def _refusal(status: int, detail: object, allow: str | None = None) -> web.Response:
    headers = {} if allow is None else {"Allow": allow}
    return web.json_response({"detail": detail}, status=status, headers=headers)
