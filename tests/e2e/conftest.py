"""One stack for all the end-to-end tests, brought up as a user would."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipmediadeploy.images.build import ensure_test_image
from sipmediadeploy.providers.docker.engine import ensure_engine
from tests.harness.outside import OutsideHost
from tests.harness.running import ROOT, RunningStack

NAME = os.environ.get("SMD_E2E_STACK", "e2e")
STACK = f"""\
name: {NAME}
domain: sip.example.org
media: {{rtp_timeout_s: 8}}
pools:
  gateway: {{max: 3}}
"""
PUBLISHED = f"""\
name: {NAME}pub
domain: sip.example.org
publish: {{address}}
media: {{{{rtp_timeout_s: 8}}}}
pools:
  kamailio: {{{{replicas: 1}}}}
  gateway: {{{{max: 1}}}}
"""


@pytest.fixture(scope="session")
def test_image() -> str:
    """The image of the test tools: baresip, SIPp, Chromium."""
    return ensure_test_image(ensure_engine(print), print)


@pytest.fixture(scope="session")
def stack(test_image: str) -> Iterator[RunningStack]:
    """A whole stack with two Kamailios, two Coturns, two scalers, a gateway and the demo conference."""
    stack_file = ROOT / "artifacts" / "e2e" / "stack.yaml"
    stack_file.parent.mkdir(parents=True, exist_ok=True)
    stack_file.write_text(STACK)
    running = RunningStack(NAME, stack_file, test_image)
    try:
        print(running.smd("up", timeout=1200))
        yield running
    finally:
        if os.environ.get("SMD_E2E_KEEP") != "yes":
            running.smd("down")


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory, test_image: str) -> Iterator[OutsideHost]:
    """Another host on the network, which reaches this one at 198.18.250.1."""
    with OutsideHost(f"{NAME}pub-outside", test_image, tmp_path_factory.getbasetemp()) as host:
        yield host


@pytest.fixture(scope="session")
def published(test_image: str, outside: OutsideHost) -> Iterator[RunningStack]:
    """A small stack that is published at the address that the outside host reaches."""
    stack_file = ROOT / "artifacts" / "e2e" / "published" / "stack.yaml"
    stack_file.parent.mkdir(parents=True, exist_ok=True)
    stack_file.write_text(PUBLISHED.format(address=outside.reaches))
    running = RunningStack(f"{NAME}pub", stack_file, test_image)
    try:
        print(running.smd("up", timeout=1200))
        yield running
    finally:
        if os.environ.get("SMD_E2E_KEEP") != "yes":
            running.smd("down")


@pytest.fixture
def pictures() -> Path:
    """Where tests leave pictures for people."""
    directory = ROOT / "artifacts" / "pictures"
    directory.mkdir(parents=True, exist_ok=True)
    return directory
