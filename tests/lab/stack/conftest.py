"""The whole product on a real OpenStack: the lab, brought up for it, and one stack on it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from sipmediadeploy.images.build import ensure_test_image
from sipmediadeploy.providers.docker.engine import ensure_engine
from tests.e2e.running import ROOT
from tests.lab.openstack import host, lifecycle
from tests.lab.openstack.role_images import ensure_role_images
from tests.lab.openstack.settings import Lab, read_settings
from tests.lab.openstack.tenants import say
from tests.lab.stack.cloud_stack import CloudStack, connect_as

NAME = os.environ.get("SMD_LAB_STACK", "labtest")
STACK = """\
name: {name}
domain: sip.example.org
provider: openstack
openstack:
  cloud: lab
  api_from: [{network}]
sip: {{trusted: [{network}]}}
media: {{rtp_timeout_s: 300}}
pools:
  gateway: {{min: 2, max: 3, calls: 8}}
"""
WHOLE_S = 180.0
"""What is promised for a whole stack from nothing, on a machine of 2 cores that does nothing else."""
_PATIENCE_S = 420.0


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab with the role images of this checkout. It is left up if it was."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = read_settings(os.environ)
    was_up = host.process_one(lab) is not None
    lifecycle.up(lab, say)
    # What the commands and this process need to reach it: the lab's openrc says the same.
    direct = f"{lab.network},{lab.api_address}"
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(lab.clouds)
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [direct, os.environ.get(name)]))
    ensure_engine(say)
    ensure_role_images(lab, say)
    yield lab
    if not was_up:
        lifecycle.down(lab, say)


@pytest.fixture(scope="session")
def from_nothing(lab: Lab) -> Iterator[CloudStack]:
    """A stack that was asked for a moment ago."""
    test_image = ensure_test_image(ensure_engine(say), say)
    stack_file = ROOT / "artifacts" / "openstack" / NAME / "stack.yaml"
    stack_file.parent.mkdir(parents=True, exist_ok=True)
    stack_file.write_text(STACK.format(name=NAME, network=lab.network))
    stack = CloudStack(NAME, stack_file, test_image, lab, connect_as("lab"), connect_as("lab-admin"))
    stack.smd("down", "--foundation")
    assert stack.left() == []
    try:
        yield stack
    finally:
        if os.environ.get("SMD_LAB_KEEP") != "yes":
            stack.smd("down", "--foundation")


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
