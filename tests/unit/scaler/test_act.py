"""Acting on a provider that refuses."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network
from typing import Any

import pytest

from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.scaler.act import Executor
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.model import Action, Kind
from sipmediadeploy.stack import Limits, Role, Stack


class Leading:
    """An authority that always leads."""

    leads = True
    term = 1

    async def confirm(self) -> bool:
        return True


class Refusing:
    """A provider that refuses to create."""

    def __init__(self, error: ProviderError) -> None:
        self.error = error

    async def create(self, *_: object) -> None:
        raise self.error


@pytest.mark.parametrize(("after", "least", "most"), [(None, 0.9, 1.1), (0.1, 0.9, 1.1), (40.0, 39.0, 40.1)])
async def test_a_provider_that_wants_to_be_left_alone_is(
    after: float | None, least: float, most: float
) -> None:
    stack, secrets = Stack(name="demo", domain="sip.test"), Secrets(master="m")

    def document(role: Role, slot: int, name: str) -> Any:
        return make_document(stack, IPv4Network("172.30.5.0/24"), secrets, "v1", role, slot, name)

    provider: Any = Refusing(ProviderError("not now", after))
    nobody: Any = None

    def limits(_role: Role) -> Limits:
        return Limits()

    executor = Executor(provider, nobody, Leading(), document, limits, lambda *_: None, lambda: 1.0)
    task = executor.start(Action(Kind.CREATE, Role.GATEWAY, "demo-gateway-0", "", slot=0), None)
    assert task is not None
    assert await task == "not now"
    now = asyncio.get_running_loop().time()
    (entry,) = executor.underway(None, {}, now)
    assert entry.retry_at is not None
    assert least <= entry.retry_at - now <= most
