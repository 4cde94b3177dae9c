"""A room with a lobby, by Jitsi's own Prosody modules; skipped where these are not installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.jitsi.meeting import DRAWN, RED, Meeting, wait_both_ways
from tests.harness.browser_participant import BrowserParticipant
from tests.harness.jitsi.installation import LOBBY_MODULE, PACKAGES, Installation
from tests.harness.terminal import Terminal

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def _lobbies(installation: Installation) -> None:
    if installation.plugins is None:
        pytest.skip(
            f"PROSODY_PLUGINS is not set, and {PACKAGES}/jitsi-meet/prosody-plugins has no {LOBBY_MODULE}"
        )


@pytest.fixture
def moderator(meeting: Meeting, request: pytest.FixtureRequest) -> Iterator[BrowserParticipant]:
    """A browser in a room of its own that has a lobby."""
    with meeting.browser("Ada", request.node.name) as ada:
        ada.wait(lambda report: report["state"] == "joined", 30, "Ada is in the room")
        ada.press("lobby")
        ada.wait(lambda report: report["waiting"] == [], 45, "there is a lobby")
        yield ada


def wait_in_the_lobby(moderator: BrowserParticipant, terminal: Terminal) -> None:
    moderator.wait(lambda report: report["waiting"] == ["Room 101"], 30, "the terminal waits in the lobby")
    terminal.wait_sees(DRAWN)
    assert terminal.wait(lambda second: second["heard"]["level_db"] > -50, 45, "the prompt is spoken")


def test_who_is_let_in_from_the_lobby_is_in_the_room(
    meeting: Meeting, moderator: BrowserParticipant, request: pytest.FixtureRequest
) -> None:
    with meeting.terminal(request.node.name) as terminal:
        wait_in_the_lobby(moderator, terminal)
        moderator.press("admit")
        wait_both_ways(moderator, terminal, meeting, colour=RED)
        assert terminal.hang_up()["verdict"] == "ok"


def test_who_is_refused_gets_a_bye(
    meeting: Meeting, moderator: BrowserParticipant, request: pytest.FixtureRequest
) -> None:
    with meeting.terminal(request.node.name) as terminal:
        wait_in_the_lobby(moderator, terminal)
        moderator.press("refuse")
        assert terminal.wait_ended(20)["ended_by"] == "peer"
