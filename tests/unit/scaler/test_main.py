"""What a scaler's process does beside stepping."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.protocol.replica import ScalerService
from sipmediadeploy.protocol.scaler import ScalerClient
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler import main
from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.stack import Stack
from tests.unit.scaler.fake_scaler import TOKEN, leading, sources


def service(provider: str) -> ScalerService:
    stack = Stack(name="demo", domain="sip.test", provider=provider)
    return ScalerService(
        stack_definition=stack,
        subnet=IPv4Network("10.88.0.0/24"),
        secrets=Secrets(master="m" * 43),
        image_version="v1",
    )


@pytest.mark.parametrize(("provider", "served"), [("docker", 0), ("openstack", 1)])
async def test_only_where_the_operator_is_elsewhere_the_api_is_served_to_the_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, served: int
) -> None:
    opened = []

    @contextlib.asynccontextmanager
    async def serving(*_: object) -> AsyncIterator[None]:
        opened.append(provider)
        yield

    monkeypatch.setattr(main, "served_outside", serving)
    given = sources(leading(), Journal("demo-scaler-0", tmp_path / "events"))
    async with main.api_outside(given, TOKEN, ScalerClient(TOKEN), service(provider)):
        assert len(opened) == served


async def test_a_scaler_whose_port_is_taken_scales_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def taken(*_: object) -> AsyncIterator[None]:
        raise OSError("address in use")
        yield

    monkeypatch.setattr(main, "served_outside", taken)
    journal = Journal("demo-scaler-0", tmp_path / "events")
    async with main.api_outside(
        sources(leading(), journal), TOKEN, ScalerClient(TOKEN), service("openstack")
    ):
        (entry,) = journal.entries
    assert entry.event == "API is not served to the outside"
    assert entry.fields["error"] == "address in use"
