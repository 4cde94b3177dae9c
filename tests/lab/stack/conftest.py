"""The whole product on a real OpenStack: the lab, brought up for it, and one stack on it."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sipmediadeploy.images.inputs import ROLES
from tests.harness import terraform
from tests.harness.openstack.cloud_stack import CloudStack
from tests.harness.openstack.making import PACKED, make_stack, reach
from tests.harness.openstack.settings import Lab
from tests.lab.openstack.package_proxy import package_proxy
from tests.lab.openstack.running import running_lab
from tests.lab.openstack.tenants import say

_PATIENCE_S = 420.0
"""118 and 124 s were measured on two cores."""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab with the role images of this checkout."""
    with running_lab() as lab:
        reach(lab, say, [role for role in ROLES if role not in PACKED])
        yield lab


@pytest.fixture(scope="session")
def from_nothing(lab: Lab) -> Iterator[CloudStack]:
    """A stack of which there is only the file; Terraform makes what it stands on, where it can be had."""
    with make_stack(
        lab, os.environ.get("SMD_LAB_STACK", "labtest"), say, by_terraform=terraform.usable()
    ) as stack:
        yield stack


@dataclass(frozen=True, slots=True)
class Deployed:
    """What ``smd deploy`` took and said. Times in seconds."""

    images_s: float
    """Until Packer had built the images of :data:`PACKED`, from a plain Debian."""
    whole_s: float
    """From then until the stack was whole, from nothing."""
    said: str


@pytest.fixture(scope="session")
def deployed(lab: Lab, from_nothing: CloudStack) -> Deployed:
    """The stack as one command makes it."""
    from_nothing.remove_images(PACKED)
    with package_proxy(lab) if PACKED else contextlib.nullcontext() as proxy:
        began = time.monotonic()
        said = from_nothing.deploy(
            *(("--packer-flavor", "d2-2", "--packer-apt-proxy", proxy) if proxy else ())
        )
        took_s = time.monotonic() - began
    print(said)
    built = re.search(r"^\[ *([0-9.]+) s\] networks, router", said, re.MULTILINE)
    assert built is not None, said
    images_s = float(built[1])
    return Deployed(images_s, took_s - images_s, said)


@pytest.fixture
def stack(from_nothing: CloudStack, deployed: Deployed) -> CloudStack:
    """The stack, whole."""
    from_nothing.wait_whole(_PATIENCE_S)
    return from_nothing
