"""The running lab, and its tenant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.openstack.settings import Lab
from tests.lab.openstack.inside.api import Api
from tests.lab.openstack.running import running_lab
from tests.lab.openstack.tenants import Tenant, tenant_of


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with running_lab() as lab:
        yield lab


@pytest.fixture
def tenant(lab: Lab) -> Iterator[Tenant]:
    """An ordinary user of the cloud; what was made goes when the test is over."""
    with tenant_of(lab) as tenant:
        yield tenant


@pytest.fixture
def admin(lab: Lab) -> Api:
    """The APIs as the cloud's admin has them."""
    return Tenant(lab, "lab-admin").api
