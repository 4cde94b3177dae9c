"""SIP calls in the rooms of a real Jitsi Meet: sound and picture both ways, contents checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.jitsi.meeting import (
    DRAWN,
    RED,
    Meeting,
    sent_codec,
    talks_directly,
    wait_both_ways,
    wait_sees_moving,
)
from tests.harness.baresip import Baresip, Settings
from tests.harness.browser_participant import BrowserParticipant
from tests.harness.media_tools import colour_distance, mean_colour, read_wav, tone_level_db
from tests.harness.terminal import NEAR, Terminal

pytestmark = pytest.mark.e2e

BLUE, TEAL = "2030c0", "00a0a0"


def _print_times(what: str, browser: BrowserParticipant, terminal: Terminal) -> None:
    """Hang up, and tell how long both waited for their first picture."""
    seen = browser.of(browser.seen[-1], "Room 101")
    assert seen, "the terminal has left"
    summary = terminal.hang_up()
    assert summary["verdict"] == "ok", summary
    at_browser_ms = 1000 * (seen["video"]["first_frame_at"] - summary["invited_at"])
    print(
        f"{what}: from the INVITE to its answer {summary['connected_ms']} ms, to the first decoded frame "
        f"{summary['first_frame_ms']} ms at the terminal, {at_browser_ms:.0f} ms at the browser; "
        f"longest gap {summary['longest_video_gap_ms']} ms"
    )


def test_a_baresip_and_a_browser_see_and_hear_each_other(meeting: Meeting) -> None:
    address, workdir = meeting.stack.client_address(0), meeting.workdir / "baresip"
    workdir.mkdir()
    prefix = meeting.stack.client_prefix("baresip", address, workdir)
    settings = Settings(workdir, address, colour="20c040", tone_hz=600, prefix=prefix)
    with meeting.browser("Ada", "baresip") as ada, Baresip(settings) as baresip:
        setup_s = baresip.dial(f"sip:baresip@{meeting.stack.service_address('kamailio')}")
        wait_sees_moving(ada, "Baresip", "20c040")
        ada.wait_hears("Baresip", 600)
        received = baresip.snapshot(20)
        colour = mean_colour(received)
        assert colour_distance(colour, RED) <= NEAR, f"baresip sees #{colour}, not the browser's red"
        baresip.hang_up()
        ada.wait(lambda r: ada.of(r, "Baresip") is None, 45, "baresip has left the room")
        samples, rate = read_wav(baresip.recording())
    level = tone_level_db(samples[-3 * rate :], rate, 800)
    assert level > -40, f"baresip's recording has the browser's 800 Hz at {level:.0f} dB only"
    print(f"answered after {setup_s * 1000:.0f} ms")


def test_a_terminal_is_in_the_room_by_its_name_with_sound_and_picture_both_ways(
    meeting: Meeting, pictures: Path
) -> None:
    with meeting.browser("Grace", "Named-Room") as grace, meeting.terminal("named-room") as terminal:
        wait_both_ways(grace, terminal, meeting, colour=RED)
        assert [one["name"] for one in grace.seen[-1]["participants"]] == ["Room 101"]
        grace.screenshot(pictures / "jitsi-room.png")
        _print_times("the browser's own choice of codec", grace, terminal)


def test_h264_is_shown_in_a_room_that_prefers_it(meeting: Meeting) -> None:
    with (
        meeting.browser("Grace", "h264", query="codecs=H264,VP8") as grace,
        meeting.terminal("h264") as terminal,
    ):
        wait_both_ways(grace, terminal, meeting, colour=RED)
        assert sent_codec(grace) == "H264"
        _print_times("H.264 first", grace, terminal)


def test_vp8_is_shown_in_a_room_that_has_nothing_else(meeting: Meeting) -> None:
    with meeting.browser("Grace", "vp8", query="codecs=VP8") as grace, meeting.terminal("vp8") as terminal:
        wait_both_ways(grace, terminal, meeting, colour=RED)
        assert sent_codec(grace) == "VP8"
        _print_times("VP8 only", grace, terminal)


def test_the_picture_follows_the_speaker_and_everybody_is_heard(meeting: Meeting) -> None:
    query = "codecs=H264,VP8"
    with (
        meeting.browser("Ada", "three", query=query, speaks=True) as ada,
        meeting.browser("Alan", "three", colour=BLUE, tone_hz=1200, query=query, speaks=True) as alan,
        meeting.terminal("three") as terminal,
    ):
        terminal.wait_hears(800)
        terminal.wait_hears(1200)
        for silent, shown in ((alan, RED), (ada, BLUE), (alan, RED)):
            silent.press("microphone")
            pressed = time.monotonic()
            terminal.wait_sees(shown, 40)
            print(f"#{shown} is shown {time.monotonic() - pressed:.1f} s after the other one was muted")
            silent.press("microphone")
        assert terminal.hang_up()["verdict"] == "ok"


def test_who_joins_two_that_talked_directly_is_in_their_conference(meeting: Meeting) -> None:
    query = "codecs=H264,VP8&p2p=1"
    with (
        meeting.browser("Ada", "direct", query=query, speaks=True) as ada,
        meeting.browser("Alan", "direct", colour=BLUE, tone_hz=1200, query=query, speaks=True) as alan,
    ):
        for browser in (ada, alan):
            browser.wait(talks_directly, 30, f"{browser.name} talks directly")
        with meeting.terminal("direct") as terminal:
            for hz in (800, 1200):
                terminal.wait_hears(hz)
            for browser in (ada, alan):
                wait_sees_moving(browser, "Room 101", meeting.colour)
                browser.wait_hears("Room 101", 500)
            alan.press("microphone")
            terminal.wait_sees(RED, 40)
            assert terminal.hang_up()["verdict"] == "ok"


def test_a_shared_screen_is_shown_instead_of_the_speaker(meeting: Meeting) -> None:
    query = f"codecs=H264,VP8&screen={TEAL}"
    with meeting.browser("Ada", "screen", query=query) as ada, meeting.terminal("screen") as terminal:
        terminal.wait_sees(RED, 40)
        ada.press("share")
        terminal.wait_sees(TEAL, 40)
        ada.press("share")
        terminal.wait_sees(RED, 40)
        assert terminal.hang_up()["verdict"] == "ok"


def test_a_camera_that_is_off_leaves_a_drawn_picture(meeting: Meeting) -> None:
    with (
        meeting.browser("Ada", "camera", query="codecs=H264,VP8") as ada,
        meeting.terminal("camera") as terminal,
    ):
        terminal.wait_sees(RED, 40)
        ada.press("camera")
        terminal.wait_sees(DRAWN)
        ada.press("camera")
        terminal.wait_sees(RED, 40)
        assert terminal.hang_up()["verdict"] == "ok"


def test_a_call_without_picture_has_sound_both_ways(meeting: Meeting) -> None:
    options = ["--audio-only", "--codec", "PCMA"]
    with meeting.browser("Grace", "phone") as grace, meeting.terminal("phone", *options) as phone:
        phone.wait_hears(800)
        grace.wait_hears("Room 101", 500)
        assert phone.hang_up()["verdict"] == "ok"


def test_two_sip_calls_in_one_room_see_and_hear_each_other(meeting: Meeting) -> None:
    with (
        meeting.terminal("two", "--name", "One", "--colour", "ff8000", "--tone", "440") as one,
        meeting.terminal("two", "--name", "Two", "--colour", "8000ff", "--tone", "660") as two,
    ):
        for terminal, colour, hz in ((one, "8000ff", 660), (two, "ff8000", 440)):
            terminal.wait_sees(colour, 40)
            terminal.wait_hears(hz)
        assert one.hang_up()["verdict"] == "ok"
        assert two.hang_up()["verdict"] == "ok"


def test_who_is_kicked_gets_a_bye(meeting: Meeting) -> None:
    with meeting.browser("Ada", "kicked") as ada, meeting.terminal("kicked") as terminal:
        terminal.wait_hears(800)
        ada.wait_hears("Room 101", 500)
        ada.press("kick")
        summary = terminal.wait_ended(15)
        assert summary["ended_by"] == "peer", summary
        ada.wait(lambda r: ada.of(r, "Room 101") is None, 45, "the terminal has left the room")


def test_a_moderators_mute_is_shown_in_the_room_and_silences_the_terminal(meeting: Meeting) -> None:
    with meeting.browser("Ada", "muted") as ada, meeting.terminal("muted") as terminal:
        ada.wait_hears("Room 101", 500)
        ada.press("mute")

        def silent(report: dict[str, Any]) -> bool:
            seen = ada.of(report, "Room 101")
            return seen is not None and (seen["audio"] is None or seen["audio"]["level_db"] < -60)

        ada.wait(silent, 45, "Ada no longer hears the terminal")
        terminal.wait_hears(800)
        assert terminal.hang_up()["verdict"] == "ok"


def test_who_stays_alone_sees_a_drawn_picture_until_somebody_comes(meeting: Meeting) -> None:
    with meeting.terminal("lone") as terminal:
        with meeting.browser("Ada", "lone") as ada:
            wait_both_ways(ada, terminal, meeting, colour=RED)
            ended = meeting.gateway_log("session ended by the focus")
        terminal.wait_sees(DRAWN)
        terminal.wait(
            lambda _: meeting.gateway_log("session ended by the focus") > ended, 60, "the session ends"
        )
        with meeting.browser("Alan", "lone", colour=BLUE, tone_hz=1200) as alan:
            terminal.wait_sees(BLUE, 40)
            terminal.wait_hears(1200)
            wait_sees_moving(alan, "Room 101", meeting.colour)
            assert terminal.hang_up()["verdict"] == "ok"
