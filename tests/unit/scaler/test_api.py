"""The scaler's API: who may ask, what is sent on, what is refused."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from sipmediadeploy.protocol.agent import State
from sipmediadeploy.protocol.scaler import ScalerAway, ScalerClient, ScalerError, View
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.scaler.api import served
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.scaler.metrics import Metrics
from sipmediadeploy.scaler.model import Action
from sipmediadeploy.stack import Role
from tests.ports import free_port

TOKEN = "the operators' token"


def record(role: Role, slot: int, address: str = "127.0.0.9") -> ReplicaRecord:
    name = f"demo-{role}-{slot}"
    return ReplicaRecord(f"id-{name}", name, role, slot, IPv4Address(address), Life.RUNNING, 0.0, "h", "v")


class FakeLease:
    def __init__(self, leader: str, own: str) -> None:
        self.leads, self.leader = leader == own, leader
        self.paused: list[bool] = []
        self.released: list[str] = []

    async def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    async def release(self, why: str) -> None:
        self.released.append(why)


class FakeScaler:
    """What the API needs of a scaler."""

    stack = "demo"

    def __init__(self, own: str, leader: str, records: list[ReplicaRecord], active: str = "") -> None:
        self.own_name, self.records, self._active = own, records, active
        self.lease = FakeLease(leader, own)
        self.orders: list[tuple[Action, list[str]]] = []
        self.states: dict[str, State | None] = {}
        self.error = ""

    def view(self) -> View:
        lead = self.lease
        return View(
            name=self.own_name, leading=lead.leads, leader=lead.leader, term=1, paused=False,
            problems=(), underway=(),
        )  # fmt: skip

    def state(self, record: ReplicaRecord) -> State | None:
        return self.states.get(record.name, State.READY)

    def is_active(self, record: ReplicaRecord) -> bool:
        return record.name == self._active

    async def order(self, action: Action, others: list[ReplicaRecord]) -> str:
        self.orders.append((action, [other.name for other in others]))
        return self.error


@pytest.fixture
def leader() -> FakeScaler:
    records = [record(Role.SCALER, 0, "127.0.0.1"), record(Role.SCALER, 1, "127.0.0.2")]
    records += [record(Role.KAMAILIO, 0), record(Role.KAMAILIO, 1), record(Role.GATEWAY, 0)]
    return FakeScaler("demo-scaler-0", "demo-scaler-0", records, active="demo-kamailio-1")


@contextlib.asynccontextmanager
async def serving(
    tmp_path: Path, *scalers: FakeScaler, token: str = TOKEN
) -> AsyncIterator[tuple[ScalerClient, Journal]]:
    port = free_port()
    journal = Journal("demo-scaler-0", tmp_path / "events")
    async with contextlib.AsyncExitStack() as stack:
        for scaler in scalers:
            address = next(str(r.address) for r in scaler.records if r.name == scaler.own_name)
            api = served(cast(Scaler, scaler), journal, Metrics().text, address, TOKEN, port)
            await stack.enter_async_context(api)
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
