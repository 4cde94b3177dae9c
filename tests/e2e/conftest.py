"""One stack for all the end-to-end tests, brought up as a user would."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipmediadeploy.images.build import ensure_test_image
from sipmediadeploy.providers.docker.engine import ensure_engine
from tests.harness.outside import OutsideHost
from tests.harness.running import ROOT, RunningStack, brought_up

NAME = os.environ.get("SMD_E2E_STACK", "e2e")
STACK = f"""\
name: {NAME}
domain: sip.example.org
turn: always
# SIPp's dialogs have no media, and stand for 20 s.
media: {{rtp_timeout_s: 60}}
pools:
  gateway: {{min: 2, max: 3, calls: 8}}
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
    """A whole stack: two replicas of each role and the demo conference.

    Media is relayed by Coturn, so that its faults are noticed; the published stack has it the direct way.
    """
    with brought_up(NAME, ROOT / "artifacts" / "e2e" / "stack.yaml", STACK, test_image) as running:
        yield running


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory, test_image: str) -> Iterator[OutsideHost]:
    """Another host on the network, which reaches this one at 198.18.250.1."""
    with OutsideHost(f"{NAME}pub-outside", test_image, tmp_path_factory.getbasetemp()) as host:
        yield host


@pytest.fixture(scope="session")
def published(test_image: str, outside: OutsideHost) -> Iterator[RunningStack]:
    """A small stack that is published at the address that the outside host reaches."""
    stack_file = ROOT / "artifacts" / "e2e" / "published" / "stack.yaml"
    text = PUBLISHED.format(address=outside.reaches)
    with brought_up(f"{NAME}pub", stack_file, text, test_image) as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults come first: they measure seconds, and later another stack runs beside."""
    items.sort(key=lambda item: item.path.name != "test_faults.py")


@pytest.fixture
def pictures() -> Path:
    """Where tests leave pictures for people."""
    directory = ROOT / "artifacts" / "pictures"
    directory.mkdir(parents=True, exist_ok=True)
    return directory
