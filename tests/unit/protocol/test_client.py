"""The agents' client against a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import IPv4Address

import pytest
from aiohttp import web

from sipmediadeploy.protocol.agent import Gateway, Gateways, Order, State, Status
from sipmediadeploy.protocol.client import AgentError, HttpAgents
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.stack import Role

RECORD = ReplicaRecord(
    "id", "demo-kamailio-0", Role.KAMAILIO, 0, IPv4Address("127.0.0.1"), Life.RUNNING, 0.0, "hash", "v1"
)
STATUS = Status(
    name=RECORD.name,
    role=Role.KAMAILIO,
    state=State.READY,
    reason="works",
    version="v1",
    config_hash="hash",
    uptime_s=1.0,
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def agent(handler: Handler) -> AsyncIterator[HttpAgents]:
    """A client whose replica is answered for by ``handler``."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with HttpAgents(lambda name: f"token-of-{name}", port=runner.addresses[0][1]) as agents:
            yield agents
    finally:
        await runner.cleanup()


async def test_a_status_is_asked_for_with_the_replicas_own_token() -> None:
    seen: list[tuple[str, str, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, request.headers["Authorization"]))
        return web.json_response(text=STATUS.model_dump_json())

    async with agent(handler) as agents:
        assert await agents.status(RECORD) == STATUS
    assert seen == [("GET", "/v1/status", "Bearer token-of-demo-kamailio-0")]


async def test_logs_are_asked_for_in_numbers_that_agents_give() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"agent: {request.path_qs} \N{SNOWMAN}\n")

    async with agent(handler) as agents:
        for asked, given in ((0, 1), (50, 50), (20_000, 10_000)):
            assert await agents.logs(RECORD, asked) == f"agent: /v1/logs?lines={given} \N{SNOWMAN}\n"


async def test_orders_and_gateways_are_sent_as_the_api_says() -> None:
    seen: list[tuple[str, str, object]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, await request.json()))
        return web.json_response({})

    gateways = Gateways(term=3, gateways=(Gateway(name="g", address=IPv4Address("10.0.0.1"), free=2),))
    async with agent(handler) as agents:
        await agents.order(RECORD, "drain", Order(term=3))
        await agents.set_gateways(RECORD, gateways)
    assert seen[0] == ("POST", "/v1/drain", {"term": 3, "by": "scaler"})
    assert seen[1][:2] == ("PUT", "/v1/gateways")
    assert Gateways.model_validate(seen[1][2]) == gateways


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (409, "an older term", "409 an older term"),
        (401, "no", "401"),
        (302, "elsewhere", "302"),
        (200, "not json", "not a status"),
        (200, "{}", "not a status"),
    ],
)
async def test_what_is_no_answer_is_an_agent_error(status: int, body: str, words: str) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers={"Location": "/"})

    async with agent(handler) as agents:
        with pytest.raises(AgentError, match=words):
            await agents.status(RECORD)


async def test_an_agent_that_does_not_answer_costs_a_second() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    clock = asyncio.get_running_loop().time
    async with agent(handler) as agents:
        started = clock()
        with pytest.raises(AgentError, match="no answer within 1 s"):
            await agents.status(RECORD)
        assert clock() - started < 3


async def test_nothing_listening_is_an_agent_error() -> None:
    async with HttpAgents(lambda _: "t", port=9) as agents:
        with pytest.raises(AgentError):
            await agents.status(RECORD)


def test_the_revision_is_of_the_list_and_not_of_the_term() -> None:
    gateway = Gateway(name="g", address=IPv4Address("10.0.0.1"), free=2)
    first = Gateways(term=1, gateways=(gateway,))
    assert first.revision == Gateways(term=2, gateways=(gateway,)).revision
    assert first.revision != Gateways(term=1, gateways=()).revision
    assert first.revision != Gateways(term=1, gateways=(gateway.model_copy(update={"free": 1}),)).revision
