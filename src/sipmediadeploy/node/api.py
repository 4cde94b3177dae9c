"""The agent's HTTP API, version 1."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from sipmediadeploy import package_version
from sipmediadeploy.node.roles.base import RoleError
from sipmediadeploy.node.state import NotYours, OlderTerm, StateError
from sipmediadeploy.protocol.agent import Gateways, Order, State, Status
from sipmediadeploy.protocol.replica import ReplicaDocument

_ERRORS: dict[type[Exception], int] = {OlderTerm: 409, NotYours: 409, StateError: 507, RoleError: 503}
"""507: the order is in force but not kept on disk, or, for a retirement, not accepted."""


class Served(Protocol):
    """What the API needs of the agent."""

    document: ReplicaDocument
    restarts: dict[str, int]

    def status(self) -> Status: ...
    def logs(self, lines: int) -> list[str]: ...
    async def service_metrics(self) -> bytes: ...
    async def drain(self, order: Order) -> None: ...
    async def undrain(self, order: Order) -> None: ...
    async def retire(self, order: Order) -> None: ...
    async def set_gateways(self, gateways: Gateways) -> None: ...


def make_api(agent: Served) -> FastAPI:
    """The API of ``agent``; every path wants the replica's bearer token."""
    api = FastAPI(
        title="SIPMediaDeploy agent",
        version=package_version(),
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    wanted = f"Bearer {agent.document.agent_token}".encode()

    @api.middleware("http")
    async def authenticate(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, wanted):
            return JSONResponse({"detail": "a bearer token is needed: the one of this replica"}, 401)
        return await call_next(request)

    async def refuse(_: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, _ERRORS[type(error)])

    for kind in _ERRORS:
        api.add_exception_handler(kind, refuse)

    @api.get("/v1/status")
    async def status() -> Status:
        """What the replica says of itself."""
        return agent.status()

    @api.post("/v1/drain")
    async def drain(order: Order) -> Status:
        """Take no new work."""
        await agent.drain(order)
        return agent.status()

    @api.post("/v1/undrain")
    async def undrain(order: Order) -> Status:
        """Take new work again."""
        await agent.undrain(order)
        return agent.status()

    @api.post("/v1/retire")
    async def retire(order: Order) -> Status:
        """Never take new work again, also after a restart."""
        await agent.retire(order)
        return agent.status()

    @api.put("/v1/gateways")
    async def gateways(gateways: Gateways) -> Status:
        """Kamailio: use these gateways. An older term than the newest seen: 409."""
        await agent.set_gateways(gateways)
        return agent.status()

    @api.get("/v1/logs", response_class=PlainTextResponse)
    async def logs(lines: Annotated[int, Query(ge=1, le=10_000)] = 100) -> str:
        """The last lines of each service's log."""
        # In a thread: a large journal takes its time, and the agent must not stand still for it.
        return "".join(f"{line}\n" for line in await asyncio.to_thread(agent.logs, lines))

    @api.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(_metrics(agent) + await agent.service_metrics(), media_type=CONTENT_TYPE_LATEST)

    return api


def _metrics(agent: Served) -> bytes:
    status = agent.status()
    registry = CollectorRegistry()
    state = Gauge("smd_replica_state", "1 for the state that the replica is in", ["state"], registry=registry)
    for each in State:
        state.labels(each.value).set(each is status.state)
    Gauge("smd_calls", "calls now", registry=registry).set(status.calls)
    Gauge("smd_capacity", "calls that the replica takes", registry=registry).set(status.capacity)
    Gauge("smd_uptime_seconds", "since the agent was started", registry=registry).set(status.uptime_s)
    Gauge("smd_term", "highest scaler's term seen", registry=registry).set(status.term)
    if status.active is not None:
        active = Gauge("smd_active", "1 when it holds the service address, or leads", registry=registry)
        active.set(status.active)
    restarts = Counter("smd_service_restarts", "services that died", ["service"], registry=registry)
    for service, count in agent.restarts.items():
        restarts.labels(service).inc(count)
    return generate_latest(registry)
