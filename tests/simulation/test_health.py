"""How replicas are asked, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import cast

import pytest

from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.protocol.client import AgentError, Agents
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.scaler.health import Prober
from sipmediadeploy.stack import Role
from tests.simulation.clock import run


@dataclass
class Asked:
    """One replica, whose agent answers or not, and whose service does."""

    role: Role
    agent: bool = True
    service: bool | None = None
    lost: int = 0
    """So many questions of the agent to come are lost."""
    times: list[float] = field(default_factory=list)
    """When the agent was asked."""
    turned_bad: int = 0

    @property
    def record(self) -> ReplicaRecord:
        address = IPv4Address("192.0.2.1")
        return ReplicaRecord("id", "one", self.role, 0, address, Life.RUNNING, 0.0, "hash", "v1")

    async def status(self, record: ReplicaRecord) -> Status:
        self.times.append(asyncio.get_running_loop().time())
        if self.lost or not self.agent:
            self.lost = max(0, self.lost - 1)
            raise AgentError("connection refused")
        return Status(
            name=record.name,
            role=record.role,
            state=State.READY,
            reason="",
            version="",
            config_hash="",
            uptime_s=1,
        )

    async def serves(self, _record: ReplicaRecord) -> bool | None:
        return self.service

    def prober(self) -> Prober:
        def turned_bad() -> None:
            self.turned_bad += 1

        prober = Prober(cast(Agents, self), turned_bad, serves=self.serves)
        prober.watch([self.record])
        return prober


@pytest.mark.parametrize(("role", "in_ten_seconds"), [(Role.KAMAILIO, 20), (Role.GATEWAY, 10)])
def test_who_has_a_service_address_is_asked_twice_a_second(role: Role, in_ten_seconds: int) -> None:
    async def main() -> None:
        asked = Asked(role)
        prober = asked.prober()
        await asyncio.sleep(10.2)
        await prober.close()
        assert abs(len(asked.times) - in_ten_seconds) <= 1

    run(main())


def test_one_lost_question_is_repeated_at_once_and_alarms_nobody() -> None:
    async def main() -> None:
        asked = Asked(Role.GATEWAY)
        prober = asked.prober()
        await asyncio.sleep(0.5)
        asked.lost = 1
        await asyncio.sleep(1.0)
        assert asked.times[-1] - asked.times[-2] < 0.3
        assert prober.probe("id").error == ""
        assert asked.turned_bad == 0
        await prober.close()

    run(main())


@pytest.mark.parametrize(
    ("service", "words"),
    [(True, "its service answers"), (False, "its service does not answer either"), (None, "silent (")],
)
def test_who_stays_silent_is_reported_once_and_his_service_is_asked(service: bool | None, words: str) -> None:
    async def main() -> None:
        asked = Asked(Role.GATEWAY, service=service)
        prober = asked.prober()
        await asyncio.sleep(0.5)
        asked.agent = False
        await asyncio.sleep(5)
        probe, now = prober.probe("id"), asyncio.get_running_loop().time()
        assert words in probe.silence
        assert asked.turned_bad == 1
        assert probe.silent_for(now) > 4
        assert (probe.lost_for(now) < 1.5) == bool(service)
        asked.agent = True
        await asyncio.sleep(1.5)
        assert prober.probe("id").serves is None
        await prober.close()

    run(main())
