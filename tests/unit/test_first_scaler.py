"""What ``smd up`` and ``smd bootstrap`` do about scalers, while others make them as well."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import cast

import pytest

from sipmediadeploy.cli.first_scaler import ensure_scaler
from sipmediadeploy.cli.stackrun import Running
from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import Life, Provider, ProviderError, ReplicaRecord
from sipmediadeploy.providers.lease import LeaseTaken, Mark
from sipmediadeploy.stack import Limits, Role, parse_stack
from tests.unit.scaler.fake_scaler import SUBNET, record

STACK = parse_stack("name: demo\ndomain: sip.example.org\n")


class TakenLease:
    async def create(self, _holder: str, _term: int, _mark: Mark) -> None:
        raise LeaseTaken


class Engine:
    """A provider that holds records; scalers of another version stand by to make one more."""

    def __init__(self, *outdated: str, made_while_deleting: int = 0, made_before_creating: int = 0) -> None:
        self.records = {name: record_named(name) for name in outdated}
        self.made_while_deleting, self.made_before_creating = made_while_deleting, made_before_creating
        self.refuses = ""

    async def inventory(self) -> list[ReplicaRecord]:
        return list(self.records.values())

    async def delete(self, replica_id: str) -> None:
        await asyncio.sleep(0)
        del self.records[replica_id.removeprefix("id-")]
        if self.made_while_deleting:
            self.made_while_deleting -= 1
            self.make_outdated()

    async def create(self, document: ReplicaDocument, _limits: Limits, zone: str = "") -> ReplicaRecord:
        del zone
        if self.made_before_creating:
            self.made_before_creating -= 1
            self.make_outdated(document.name)
        if self.refuses or document.name in self.records:
            raise ProviderError(self.refuses or f"a container named {document.name} is there already")
        new = dataclasses.replace(
            record_named(document.name), config_hash=document.service_hash(), version="v2"
        )
        self.records[document.name] = new
        return new

    def lease(self) -> TakenLease:
        return TakenLease()

    def make_outdated(self, name: str = "") -> None:
        used = [int(name.rpartition("-")[2]) for name in self.records]
        name = name or f"demo-scaler-{max(used, default=8) + 1}"
        self.records[name] = record_named(name)


def record_named(name: str) -> ReplicaRecord:
    number = int(name.rpartition("-")[2])
    return dataclasses.replace(record(Role.SCALER, number), slot=0, life=Life.RUNNING, version="v1")


def ensure(engine: Engine) -> list[str]:
    """What is reported."""
    said: list[str] = []
    running = Running(STACK, Secrets(master="m"), SUBNET, "v2", cast(Provider, engine))
    asyncio.run(ensure_scaler(running, said.append))
    return said


def current(engine: Engine) -> list[str]:
    assert all(one.version == "v2" for one in engine.records.values()), engine.records
    return list(engine.records)


def test_outdated_scalers_are_replaced_by_one() -> None:
    engine = Engine("demo-scaler-0", "demo-scaler-1")
    said = ensure(engine)
    assert current(engine) == ["demo-scaler-2"]
    assert said[-1] == "demo-scaler-2: starting it; it makes the other replicas"


def test_one_that_an_outdated_leader_makes_while_it_goes_is_removed_as_well() -> None:
    engine = Engine("demo-scaler-0", "demo-scaler-1", made_while_deleting=1)
    ensure(engine)
    assert current(engine) == ["demo-scaler-3"], "a name is used once"


def test_one_that_comes_at_the_last_moment_with_the_new_ones_name_is_removed_as_well() -> None:
    engine = Engine("demo-scaler-0", "demo-scaler-1", made_before_creating=1)
    ensure(engine)
    assert current(engine) == ["demo-scaler-3"]


def test_a_good_one_is_left_alone() -> None:
    engine = Engine()
    ensure(engine)
    before = dict(engine.records)
    assert ensure(engine) == []
    assert engine.records == before


def test_why_none_can_be_made_is_said() -> None:
    engine = Engine()
    engine.refuses = "image smd/scaler:v2 is missing"
    with pytest.raises(ProviderError, match="is missing"):
        ensure(engine)


def test_a_stack_whose_scalers_somebody_makes_again_and_again_is_given_up() -> None:
    engine = Engine("demo-scaler-0", made_while_deleting=100)
    with pytest.raises(ProviderError, match="come anew as often as they are removed; see who else"):
        ensure(engine)
