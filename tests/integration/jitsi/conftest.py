"""A Prosody, a small focus, and a call that has not joined yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.ports import free_port
from tests.integration.conference.guests import Guest, caller
from tests.integration.jitsi.focus import Focus, running_focus
from tests.integration.jitsi.prosody_server import ProsodyServer, running_prosody
from tests.integration.media_terminal import BLUE, RED


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ProsodyServer]:
    """A Prosody that takes guests."""
    async with running_prosody(tmp_path / "prosody") as server:
        yield server


@pytest.fixture
async def focus(server: ProsodyServer) -> AsyncIterator[Focus]:
    """It shows blue and sounds at 1000 Hz."""
    async with running_focus(server, free_port(), 1000.0, BLUE) as focus:
        yield focus


@pytest.fixture
async def ann(focus: Focus) -> AsyncIterator[Guest]:
    """A call that shows red and sounds at 440 Hz; it leaves before the platform goes."""
    async with caller(440.0, RED) as ann:
        yield ann
