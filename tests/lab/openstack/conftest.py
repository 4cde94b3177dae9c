"""The running lab, and its tenant."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.openstack import host, lifecycle
from tests.lab.openstack.inside.api import Api
from tests.lab.openstack.settings import Lab, read_settings
from tests.lab.openstack.tenants import Tenant, say, tenant_of


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, up. It is left as it was found: up or down."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = read_settings(os.environ)
    was_up = host.process_one(lab) is not None
    lifecycle.up(lab, say)
    yield lab
    if was_up:
        lifecycle.up(lab, say)
    else:
        lifecycle.down(lab, say)


@pytest.fixture
def tenant(lab: Lab) -> Iterator[Tenant]:
    """An ordinary user of the cloud; what was made goes when the test is over."""
    with tenant_of(lab) as tenant:
        yield tenant


@pytest.fixture
def admin(lab: Lab) -> Api:
    """The APIs as the cloud's admin has them."""
    return Tenant(lab, "lab-admin").api
