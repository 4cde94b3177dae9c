"""How commands ask a stack that runs on this host's engine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.stackrun import Running
from sipmediadeploy.protocol.scaler import ScalerAway, ScalerClient
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import Life, Provider, ReplicaRecord
from sipmediadeploy.stack import Role, Stack


class Two:
    """A provider whose younger scaler comes first."""

    async def inventory(self) -> list[ReplicaRecord]:
        return [
            ReplicaRecord(
                id=str(age), name=f"demo-scaler-{age}", role=Role.SCALER, slot=age,
                address=IPv4Address(f"198.18.0.{age}"), life=Life.RUNNING, created_at=1000.0 - age,
                config_hash="", version="",
            )
            for age in (1, 9)
        ]  # fmt: skip


def running() -> Running:
    stack = Stack(name="demo", domain="sip.example.org")
    network = IPv4Network("198.18.0.0/24")
    return Running(stack, Secrets(master="m" * 43), network, "v1", cast(Provider, Two()))


async def test_the_oldest_scaler_is_asked_first_since_it_has_the_whole_trail() -> None:
    asked: list[str] = []

    async def ask(_client: ScalerClient, address: str) -> str:
        asked.append(address)
        if len(asked) == 1:
            raise ScalerAway("no answer")
        return "told"

    assert await running().ask(ask) == "told"
    assert asked == ["198.18.0.9", "198.18.0.1"]


async def test_when_no_scaler_answers_each_is_named() -> None:
    async def ask(_client: ScalerClient, _address: str) -> str:
        raise ScalerAway("no answer")

    with pytest.raises(CommandError, match=r"demo-scaler-9: no answer; demo-scaler-1: no answer"):
        await running().ask(ask)
