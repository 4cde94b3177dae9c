"""The whole product on a real OpenStack: the lab, brought up for it, and one stack on it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.lab.openstack.running import running_lab
from tests.lab.openstack.settings import Lab
from tests.lab.openstack.tenants import say
from tests.lab.stack.cloud_stack import CloudStack
from tests.lab.stack.making import make_stack, reach

_PATIENCE_S = 420.0
"""160 to 184 s were measured on two cores."""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab with the role images of this checkout."""
    with running_lab() as lab:
        reach(lab, say)
        yield lab


@pytest.fixture(scope="session")
def from_nothing(lab: Lab) -> Iterator[CloudStack]:
    """A stack of which there is only the file."""
    with make_stack(lab, os.environ.get("SMD_LAB_STACK", "labtest"), say) as stack:
        yield stack


@pytest.fixture(scope="session")
def took_s(from_nothing: CloudStack) -> float:
    """How long it took until the stack was whole, in seconds."""
    began = time.monotonic()
    print(from_nothing.smd("bootstrap", "--foundation"))
    from_nothing.wait_whole(_PATIENCE_S)
    return time.monotonic() - began


@pytest.fixture
def stack(from_nothing: CloudStack, took_s: float) -> CloudStack:
    """The stack, whole."""
    from_nothing.wait_whole(_PATIENCE_S)
    return from_nothing
