"""A cloud in which nothing was made yet."""

from __future__ import annotations

from collections.abc import Iterator

import openstack.connection  # noqa: F401  its import takes long, which no time limit is meant for
import pytest

from tests.unit.providers.openstack.fake_cloud import FakeCloud, running


@pytest.fixture
def empty_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """With an external network ``public`` and an operator's ``inner``, and nothing else."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as cloud:
        cloud.external("public")
        inner = cloud.add("networks", name="inner")
        cloud.add("subnets", name="inner", network_id=inner["id"], cidr="10.7.7.0/24", ip_version=4)
        yield cloud
