"""What becomes of a stack while the API of a fake cloud does wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.stack import OpenStack, Role
from tests.harness.api_faults.cases import CASES, Case, build_town, name_of
from tests.harness.api_faults.scalers import SUBNET
from tests.unit.providers.openstack.fake_cloud import running

AT_ONCE_S = 45.0
"""Far over what is measured: the machine is busy."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Case, Future[None]]]:
    """All cases side by side, each with a cloud of its own: they mostly wait."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(CASES)) as threads:
        patch.setenv("no_proxy", "127.0.0.1")
        yield {case: threads.submit(_try, case, tmp_path_factory.mktemp("town")) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_while_the_api_does_wrong(outcomes: Mapping[Case, Future[None]], case: Case) -> None:
    outcomes[case].result()


def _try(case: Case, path: Path) -> None:
    with running("compute", "network", "image") as cloud:
        cloud.foundation("demo", SUBNET, [str(role) for role in Role])
        credentials = cloud.credentials()
        town = build_town("demo", OpenStack(), Cloud(lambda: credentials), credentials, path, AT_ONCE_S)
        asyncio.run(case(town))
