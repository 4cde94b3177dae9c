"""What becomes of a stack while the API of a real cloud does wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sipmediadeploy.providers.openstack.leftovers import remove_stack
from tests.harness.api_faults.cases import CASES, Case, Town, build_town, name_of
from tests.lab.provider.conftest import PATIENCE, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
AT_ONCE_S = 45.0 * PATIENCE
SHORT = CASES[:2]
"""Of the cases, which are all tried on a fake cloud, these are on a real one in ``make test``."""
LONG = [pytest.param(case, marks=pytest.mark.long) for case in CASES if case not in SHORT]


@pytest.fixture(scope="module")
def built(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    settings, path = lab.stack.openstack, tmp_path_factory.mktemp("scalers")
    assert settings is not None
    remove_stack(lab.cloud, lab.stack.name)
    yield build_town(lab.stack.name, settings, lab.cloud, lab.credentials, path, AT_ONCE_S)
    remove_stack(lab.cloud, lab.stack.name)


@pytest.fixture
def town(built: Town, tmp_path: Path) -> Town:
    """With a directory of its own for what scalers write."""
    return built.again(tmp_path)


@pytest.mark.promise(4)
@pytest.mark.parametrize("case", [*SHORT, *LONG], ids=name_of)
async def test_while_the_api_does_wrong(town: Town, case: Case) -> None:
    await case(town)
