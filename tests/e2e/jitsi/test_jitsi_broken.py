"""Parts of Jitsi die while a call stands: the SIP call stays, and has media again."""

from __future__ import annotations

import time

import pytest

from tests.e2e.jitsi.meeting import RED, Meeting, wait_both_ways
from tests.harness.jitsi.backend import Service
from tests.harness.running import eventually

pytestmark = pytest.mark.e2e


def _survives(meeting: Meeting, service: Service, room: str, news: str) -> None:
    """``news``: what the gateway logs when it has come back."""
    with (
        meeting.browser("Ada", room, query="codecs=H264,VP8") as ada,
        meeting.terminal(room) as terminal,
    ):
        wait_both_ways(ada, terminal, meeting, colour=RED)
        heard = meeting.gateway_log(news)
        began = time.monotonic()
        meeting.jitsi.restart(service)
        restarted_s = time.monotonic() - began
        eventually(lambda: meeting.gateway_log(news) > heard, 60, f"the gateway says '{news}'", every=1)
        wait_both_ways(ada, terminal, meeting, colour=RED)
        back_s = time.monotonic() - began
        summary = terminal.hang_up()
    assert summary["ended_by"] == "here", summary
    print(
        f"{service.name} was there again after {restarted_s:.1f} s, sound and picture both ways after "
        f"{back_s:.1f} s; the terminal's picture stood for {summary['longest_video_gap_ms'] / 1000:.1f} s"
    )


def test_a_call_survives_the_death_of_the_bridge(meeting: Meeting) -> None:
    _survives(meeting, meeting.jitsi.bridge, "bridge", "session accepted")


def test_a_call_survives_the_death_of_the_xmpp_server(meeting: Meeting) -> None:
    _survives(meeting, meeting.jitsi.prosody, "prosody", "conference rejoined")


def test_a_call_survives_the_death_of_the_focus(meeting: Meeting) -> None:
    _survives(meeting, meeting.jitsi.focus, "focus", "session accepted")
