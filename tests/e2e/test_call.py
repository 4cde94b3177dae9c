"""The main job: a SIP call in a WebRTC conference, sound and picture both ways, contents checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.baresip import Baresip, Settings
from tests.harness.browser_participant import NEAR, BrowserParticipant
from tests.harness.media_tools import colour_distance, mean_colour, read_wav, summary_of, tone_level_db
from tests.harness.running import RunningStack
from tests.harness.terminal import SMALL, Terminal

pytestmark = pytest.mark.e2e


def _page(stack: RunningStack, room: str) -> str:
    base: str = stack.status()["page"]
    return f"{base.rsplit('/', 1)[0]}/{room}"


def _browser(
    stack: RunningStack, tmp_path: Path, name: str, room: str, index: int, colour: str, tone_hz: int
) -> BrowserParticipant:
    workdir = tmp_path / name
    prefix = stack.client_prefix(f"browser-{name}", stack.client_address(index), workdir)
    return BrowserParticipant(prefix, _page(stack, room), name, workdir, colour=colour, tone_hz=tone_hz)


def test_a_baresip_and_a_browser_see_and_hear_each_other(
    stack: RunningStack, tmp_path: Path, pictures: Path
) -> None:
    address, workdir = stack.client_address(0), tmp_path / "baresip"
    workdir.mkdir()
    settings = Settings(
        workdir,
        address,
        colour="20c040",
        tone_hz=600,
        prefix=stack.client_prefix("baresip", address, workdir),
    )
    with (
        _browser(stack, tmp_path, "Ada", "first", 1, "c03020", 800) as ada,
        Baresip(settings) as baresip,
    ):
        setup_s = baresip.dial(f"sip:first@{stack.service_address('kamailio')}")
        ada.wait_sees("Baresip", "20c040")
        ada.wait_hears("Baresip", 600)
        received = baresip.snapshot()
        colour = mean_colour(received)
        assert colour_distance(colour, "c03020") <= NEAR, f"baresip sees #{colour}, not the browser's red"
        ada.screenshot(pictures / "browser-with-baresip.png")
        baresip.hang_up()
        ada.wait(lambda r: ada.of(r, "Baresip") is None, 45, "baresip has left the room")
        samples, rate = read_wav(baresip.recording())
    level = tone_level_db(samples[-3 * rate :], rate, 800)
    assert level > -40, f"baresip's recording has the browser's 800 Hz at {level:.0f} dB only"
    print(f"answered after {setup_s * 1000:.0f} ms")


def test_smd_call_and_a_browser_see_and_hear_each_other(
    stack: RunningStack, tmp_path: Path, pictures: Path
) -> None:
    snapshot = tmp_path / "snapshot.png"
    options = ["--colour", "1e90ff", "--tone", "500", "--name", "Room 101", "--snapshot", str(snapshot)]
    with (
        _browser(stack, tmp_path, "Grace", "second", 1, "c03020", 800) as grace,
        Terminal(stack, "second", *options) as terminal,
    ):
        grace.wait_sees("Room 101", "1e90ff")
        grace.wait_hears("Room 101", 500)
        terminal.wait_sees("c03020")
        terminal.wait_hears(800)
        seen = grace.of(grace.seen[-1], "Room 101")
        grace.screenshot(pictures / "demo-page.png")
        summary = terminal.hang_up()
    assert summary["verdict"] == "ok", summary
    assert colour_distance(mean_colour(snapshot), "c03020") <= NEAR
    assert seen
    at_browser_ms = 1000 * (seen["video"]["first_frame_at"] - summary["invited_at"])
    print(
        f"from the INVITE to its answer {summary['connected_ms']} ms, to the first decoded frame "
        f"{summary['first_frame_ms']} ms at the terminal, {at_browser_ms:.0f} ms at the browser"
    )


def test_smd_call_shows_what_comes_back_from_a_room_that_was_empty(stack: RunningStack) -> None:
    summary = summary_of(stack.smd("call", "empty", "--json", "--seconds", "8"))
    assert summary["verdict"] == "ok"
    assert colour_distance(summary["last"]["seen"]["code_colour"], "ff8c00") <= NEAR
    assert any(abs(tone["hz"] - 660) <= 15 for tone in summary["last"]["heard"]["tones"])


def test_a_caller_who_is_alone_sees_a_drawn_picture(stack: RunningStack, pictures: Path) -> None:
    snapshot = pictures / "alone.png"
    with Terminal(stack, "lonely", "--snapshot", str(snapshot)) as alone:
        alone.wait_sees("1c2433")
        alone.hang_up()
    assert colour_distance(mean_colour(snapshot), "1c2433") <= NEAR


def test_two_sip_calls_in_one_room_see_and_hear_each_other(stack: RunningStack) -> None:
    with (
        Terminal(stack, "third", "--colour", "ff8000", "--tone", "440", "--name", "One", *SMALL) as one,
        Terminal(stack, "third", "--colour", "8000ff", "--tone", "660", "--name", "Two", *SMALL) as two,
    ):
        for terminal, colour, hz in ((one, "8000ff", 660), (two, "ff8000", 440)):
            terminal.wait_sees(colour)
            terminal.wait_hears(hz)
        assert one.hang_up()["verdict"] == "ok"
        assert two.hang_up()["verdict"] == "ok"


def test_the_picture_follows_the_speaker_and_everybody_is_heard(stack: RunningStack, tmp_path: Path) -> None:
    with (
        _browser(stack, tmp_path, "Ada", "fourth", 1, "c03020", 800) as ada,
        _browser(stack, tmp_path, "Alan", "fourth", 2, "2030c0", 1200) as alan,
        Terminal(stack, "fourth", "--tone", "500", "--name", "Room 101", *SMALL) as terminal,
    ):
        terminal.wait_hears(800)
        terminal.wait_hears(1200)
        alan.press("microphone")
        terminal.wait_sees("c03020")
        alan.press("microphone")
        ada.press("microphone")
        terminal.wait_sees("2030c0")
        assert terminal.hang_up()["verdict"] == "ok"


def test_a_call_without_picture_has_sound_both_ways(stack: RunningStack, tmp_path: Path) -> None:
    options = ["--audio-only", "--codec", "PCMA", "--tone", "500", "--name", "Phone"]
    with (
        _browser(stack, tmp_path, "Grace", "fifth", 1, "c03020", 800) as grace,
        Terminal(stack, "fifth", *options) as phone,
    ):
        phone.wait_hears(800)
        grace.wait_hears("Phone", 500)
        assert phone.hang_up()["verdict"] == "ok"
