"""The agent's API: what is answered, what is refused and how, and that its description is true."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from sipmediadeploy.node.api import make_api, operations
from sipmediadeploy.node.openapi import describe
from sipmediadeploy.node.roles.base import RoleError
from sipmediadeploy.node.state import NotYours, OlderTerm, StateError
from sipmediadeploy.protocol.agent import Gateways, Order, State, Status
from sipmediadeploy.protocol.http_server import serving
from sipmediadeploy.protocol.replica import CoturnService, ReplicaDocument
from sipmediadeploy.stack import Role
from tests.harness.ports import ADDRESS, free_port

TOKEN = {"Authorization": "Bearer replica-token"}
SCHEMAS = {
    "Gateway",
    "Gateways",
    "HTTPValidationError",
    "Order",
    "Role",
    "State",
    "Status",
    "ValidationError",
}
"""Programs that others made from the description have these names."""

STATUS = Status(
    name="c",
    role=Role.COTURN,
    state=State.READY,
    reason="well",
    version="1",
    config_hash="0",
    uptime_s=1.0,
)


class FakeAgent:
    """Keeps what it was told, or refuses with ``error``."""

    document = ReplicaDocument(
        stack="t",
        name="c",
        slot=0,
        address=IPv4Address(ADDRESS),
        agent_token="replica-token",
        service=CoturnService(service_address=IPv4Address(ADDRESS), realm="r", secret="s"),
    )

    def __init__(self) -> None:
        self.restarts = {"coturn": 2}
        self.address_taken = 3
        self.told: list[object] = []
        self.error: Exception | None = None

    def status(self) -> Status:
        return STATUS

    def logs(self, lines: int) -> list[str]:
        return [f"coturn: line {number}" for number in range(lines)]

    async def service_metrics(self) -> bytes:
        return b"coturn_allocations 1.0\n"

    async def drain(self, order: Order) -> None:
        self._take(("drain", order))

    async def undrain(self, order: Order) -> None:
        self._take(("undrain", order))

    async def retire(self, order: Order) -> None:
        self._take(("retire", order))

    async def set_gateways(self, gateways: Gateways) -> None:
        self._take(gateways)

    def _take(self, told: object) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(told)


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def http(agent: FakeAgent) -> AsyncIterator[aiohttp.ClientSession]:
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(make_api(agent), ADDRESS, port))
        yield await stack.enter_async_context(
            aiohttp.ClientSession(f"http://{ADDRESS}:{port}", headers=TOKEN)
        )


async def refused(http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with http.request(method, path, **options) as answer:
        assert answer.content_type == "application/json"
        body = await answer.json()
    assert list(body) == ["detail"]
    return answer.status, body["detail"]


@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/drain", "/metrics", "/v1/logs", "/v1/openapi.json", "/nothing"]
)
@pytest.mark.parametrize("token", ["", "Bearer another", "Bearer \u00e4", "replica-token"])
async def test_nothing_is_told_without_the_replicas_token(
    http: aiohttp.ClientSession, path: str, token: str
) -> None:
    status, detail = await refused(http, "GET", path, headers={"Authorization": token})
    assert status == 401
    assert "bearer token" in detail


async def test_orders_reach_the_agent_and_are_answered_by_its_status(
    agent: FakeAgent, http: aiohttp.ClientSession
) -> None:
    for what in ("drain", "undrain", "retire"):
        async with http.post(f"/v1/{what}", json={"term": 3, "by": "operator"}) as answer:
            assert Status.model_validate(await answer.json()) == agent.status()
    listed = {"term": 3, "gateways": [{"name": "g", "address": "10.0.0.1", "free": 1}]}
    async with http.put("/v1/gateways", json=listed) as answer:
        assert Status.model_validate(await answer.json()) == agent.status()
    order = Order(term=3, by="operator")
    expected = [("drain", order), ("undrain", order), ("retire", order), Gateways.model_validate(listed)]
    assert agent.told == expected


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OlderTerm("term 1 is older than 2"), 409),
        (NotYours("an operator drained it"), 409),
        (RoleError("kamailio is silent"), 503),
        (StateError("free some space"), 507),
    ],
)
async def test_a_refusal_says_why(
    agent: FakeAgent, http: aiohttp.ClientSession, error: Exception, status: int
) -> None:
    agent.error = error
    assert await refused(http, "POST", "/v1/drain", json={"term": 1}) == (status, str(error))


@pytest.mark.parametrize(
    ("body", "place", "why"),
    [
        ("", ["body"], "Invalid JSON"),
        ("{secret", ["body"], "Invalid JSON"),
        ("[]", ["body"], "object"),
        ('{"by": "operator"}', ["body", "term"], "Field required"),
        ('{"term": "secret"}', ["body", "term"], "integer"),
    ],
)
async def test_a_body_that_is_no_order_is_refused_with_its_place_and_never_quoted(
    agent: FakeAgent, http: aiohttp.ClientSession, body: str, place: list[str], why: str
) -> None:
    status, detail = await refused(http, "POST", "/v1/drain", data=body)
    assert status == 422
    assert detail[0]["loc"] == place
    assert why in detail[0]["msg"]
    assert "secret" not in json.dumps(detail)
    assert agent.told == []


async def test_a_body_beyond_all_bounds_is_refused(agent: FakeAgent, http: aiohttp.ClientSession) -> None:
    status, _ = await refused(http, "PUT", "/v1/gateways", data=b" " * (1 << 21))
    assert status == 413
    assert agent.told == []


async def test_as_many_lines_of_the_logs_are_told_as_are_asked_for(http: aiohttp.ClientSession) -> None:
    for query, count in (({}, 100), ({"lines": "1"}, 1), ({"lines": "10000"}, 10_000)):
        async with http.get("/v1/logs", params=query) as answer:
            assert answer.content_type == "text/plain"
            assert len((await answer.text()).splitlines()) == count
    for lines in ("0", "10001", "-1", "many", ""):
        status, detail = await refused(http, "GET", "/v1/logs", params={"lines": lines})
        assert (status, detail[0]["loc"]) == (422, ["query", "lines"])


async def test_what_is_not_there_is_refused_like_all_else(http: aiohttp.ClientSession) -> None:
    assert await refused(http, "GET", "/nothing") == (404, "Not Found")
    async with http.get("/v1/drain") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_prometheus_gets_what_agent_and_service_count(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    for line in (
        'smd_replica_state{state="ready"} 1.0',
        'smd_service_restarts_total{service="coturn"} 2.0',
        "smd_address_taken_total 3.0",
        "coturn_allocations 1.0",
    ):
        assert line in text.splitlines()


async def test_the_description_is_valid_and_has_the_names_that_it_always_had(
    agent: FakeAgent, http: aiohttp.ClientSession
) -> None:
    async with http.get("/v1/openapi.json") as answer:
        told = await answer.json()
    assert told == describe(operations(agent), told["info"]["title"], told["info"]["version"])
    OpenAPIV31SpecValidator(told).validate()
    assert set(told["components"]["schemas"]) == SCHEMAS | {"Refusal"}
    assert told["paths"]["/v1/status"]["get"]["operationId"] == "status_v1_status_get"


def test_each_route_is_described_and_each_description_has_a_route(agent: FakeAgent) -> None:
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in make_api(agent).router.routes()
        if route.resource is not None
    }
    described = {
        (method, path)
        for path, methods in describe(operations(agent), "t", "1")["paths"].items()
        for method in methods
    }
    assert described == routes
    assert ("put", "/v1/gateways") in described


async def test_answers_have_the_properties_that_are_described(
    agent: FakeAgent, http: aiohttp.ClientSession
) -> None:
    schemas = describe(operations(agent), "t", "1")["components"]["schemas"]
    async with http.get("/v1/status") as answer:
        assert set(await answer.json()) == set(schemas["Status"]["properties"])
    async with http.get("/nothing") as answer:
        assert set(await answer.json()) == set(schemas["Refusal"]["properties"])
    async with http.post("/v1/drain", data="") as answer:
        (one,) = (await answer.json())["detail"]
    assert set(one) == set(schemas["ValidationError"]["properties"])
