"""The scaler's API: who may ask, what is sent on, what is refused."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.protocol.agent import State
from sipmediadeploy.protocol.scaler import ScalerAway, ScalerClient, ScalerError
from sipmediadeploy.scaler.api import served
from sipmediadeploy.scaler.journal import Journal
from tests.harness.ports import free_port
from tests.unit.scaler.fake_scaler import TOKEN, FakeScaler, leading, sources


@pytest.fixture
def leader() -> FakeScaler:
    return leading()


@contextlib.asynccontextmanager
async def serving(
    tmp_path: Path, *scalers: FakeScaler, token: str = TOKEN
) -> AsyncIterator[tuple[ScalerClient, Journal]]:
    port = free_port()
    journal = Journal("demo-scaler-0", tmp_path / "events")
    async with contextlib.AsyncExitStack() as stack:
        for scaler in scalers:
            address = next(str(r.address) for r in scaler.records if r.name == scaler.own_name)
            await stack.enter_async_context(served(sources(scaler, journal), address, TOKEN, port))
        client = await stack.enter_async_context(ScalerClient(token, port))
        yield client, journal


async def test_only_operators_are_answered(leader: FakeScaler, tmp_path: Path) -> None:
    async with serving(tmp_path, leader, token="another") as (client, _):
        with pytest.raises(ScalerError, match="bearer token"):
            await client.view("127.0.0.1")
        with pytest.raises(ScalerError, match="bearer token"):
            await client.command("127.0.0.1", "pause")
    assert leader.lease.paused == []


async def test_the_leader_carries_commands_out(leader: FakeScaler, tmp_path: Path) -> None:
    async with serving(tmp_path, leader) as (client, journal):
        assert (await client.view("127.0.0.1")).leading
        assert "watch only" in await client.command("127.0.0.1", "pause")
        await client.command("127.0.0.1", "resume")
        assert leader.lease.paused == [True, False]
        await client.command("127.0.0.1", "drain", "gateway-0")
        action, _ = leader.orders.pop()
        assert (action.kind, action.name, action.by) == ("drain", "demo-gateway-0", "operator")
        assert "standby now" in await client.command("127.0.0.1", "failover", "kamailio")
        action, others = leader.orders.pop()
        assert (action.kind, action.name, others) == ("failover", "demo-kamailio-1", ["demo-kamailio-0"])
        await client.command("127.0.0.1", "replace", "demo-gateway-0")
        assert journal.entries[-1].fields["replica_id"] == "id-demo-gateway-0"
        await client.command("127.0.0.1", "replace", "demo-scaler-0")
        assert leader.lease.released == ["an operator wants it replaced"]
        events = await client.events("127.0.0.1")
        asked = ["pause asked", "resume asked", "replace asked", "replace asked"]
        assert [entry.event for entry in events.entries] == asked
        assert [entry.event for entry in await client.newest("127.0.0.1", 3)] == asked[1:]


@pytest.mark.parametrize(
    ("command", "target", "changes", "why"),
    [
        ("drain", "gateway-7", {}, "no replica is named gateway-7. There are: demo-gateway-0"),
        ("drain", "scaler-0", {}, "no calls that could be drained"),
        ("failover", "gateway", {}, "has no active replica"),
        ("failover", "kamailio", {"states": {"demo-kamailio-0": State.FAILED}}, "no other replica"),
        ("failover", "kamailio", {"_active": ""}, "there must be one"),
        ("failover", "scaler", {"states": {"demo-scaler-1": None}}, "no other scaler"),
        ("replace", "scaler-0", {"states": {"demo-scaler-1": None}}, "no other scaler"),
        ("drain", "gateway-0", {"error": "no answer within 1 s"}, "drain demo-gateway-0: no answer"),
        ("dance", "", {}, "there is no command dance"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason(
    leader: FakeScaler, tmp_path: Path, command: Any, target: str, changes: dict[str, Any], why: str
) -> None:
    for name, value in changes.items():
        setattr(leader, name, value)
    async with serving(tmp_path, leader) as (client, _):
        with pytest.raises(ScalerError, match=why):
            await client.command("127.0.0.1", command, target)


async def test_a_standby_sends_commands_on_to_the_leader(leader: FakeScaler, tmp_path: Path) -> None:
    standby = FakeScaler("demo-scaler-1", "demo-scaler-0", leader.records)
    async with serving(tmp_path, leader, standby) as (client, _):
        await client.command("127.0.0.2", "pause")
        assert leader.lease.paused == [True]
        standby.lease.leader = "demo-scaler-1"  # it does not know yet that it does not lead
        with pytest.raises(ScalerAway, match="no scaler leads"):
            await client.command("127.0.0.2", "pause")
    assert standby.lease.paused == []


async def test_a_scaler_that_is_not_there_is_away(tmp_path: Path) -> None:
    async with ScalerClient(TOKEN, free_port()) as client:
        with pytest.raises(ScalerAway, match=r"127\.0\.0\.1"):
            await client.view("127.0.0.1")
