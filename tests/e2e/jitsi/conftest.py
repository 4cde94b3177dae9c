"""A Jitsi and a stack that calls it, once for all tests here; skipped where this machine has no Jitsi."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.jitsi.meeting import Meeting
from tests.harness.jitsi.backend import Backend, running_backend
from tests.harness.jitsi.installation import Installation, NoJitsi, find_installation
from tests.harness.running import ROOT, RunningStack, brought_up

NAME = os.environ.get("SMD_JITSI_STACK", "jitsi")
STACK = f"""\
name: {NAME}
domain: sip.example.org
conference:
  platform: jitsi
  url: {{url}}
  ca_file: {{ca}}
media: {{{{rtp_timeout_s: 8}}}}
pools:
  kamailio: {{{{replicas: 1}}}}
  coturn: {{{{replicas: 1}}}}
  gateway: {{{{max: 2}}}}
"""


@pytest.fixture(scope="session")
def installation() -> Installation:
    """Jitsi on this machine."""
    try:
        return find_installation(os.environ)
    except NoJitsi as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def jitsi(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A running Jitsi. Its logs are kept in artifacts/e2e."""
    directory = ROOT / "artifacts" / "e2e" / NAME / "backend"
    _empty(directory)
    with running_backend(installation, f"{NAME[:8]}-jvb", directory) as backend:
        yield backend


@pytest.fixture(scope="session")
def jitsi_stack(jitsi: Backend, test_image: str) -> Iterator[RunningStack]:
    """A stack whose conference platform is the Jitsi."""
    stack_file = ROOT / "artifacts" / "e2e" / NAME / "stack.yaml"
    text = STACK.format(url=jitsi.url, ca=jitsi.ca.relative_to(stack_file.parent))
    with brought_up(NAME, stack_file, text, test_image) as running:
        yield running


@pytest.fixture(scope="session")
def warm(jitsi: Backend, jitsi_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Meeting:
    """After one conference: the first one is slower by seconds, as Java loads its classes."""
    meeting = Meeting(jitsi, jitsi_stack, tmp_path_factory.mktemp("warm"))
    with meeting.browser("Ada", "warm") as ada, meeting.terminal("warm") as terminal:
        try:
            ada.wait_sees("Room 101", meeting.colour, 60)
        finally:
            terminal.hang_up()
    return meeting


@pytest.fixture
def meeting(warm: Meeting, tmp_path: Path) -> Meeting:
    """Browsers and terminals for one test."""
    return Meeting(warm.jitsi, warm.stack, tmp_path)


def _empty(directory: Path) -> None:
    """Remove what an earlier run has left."""
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
