"""The main job: a SIP call in a WebRTC conference, sound and picture both ways, contents checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.baresip import Baresip, Settings
from tests.e2e.browser_participant import BrowserParticipant
from tests.e2e.running import RunningStack
from tests.e2e.terminal import SMALL, Terminal
from tests.media_tools import colour_distance, mean_colour, read_wav, summary_of, tone_level_db

pytestmark = pytest.mark.e2e

NEAR = 40
"""Colour distance that coding and the limited range cost at most; the colours used differ by far more."""


def _page(stack: RunningStack, room: str) -> str:
    base: str = stack.status()["page"]
    return f"{base.rsplit('/', 1)[0]}/{room}"


def _browser(
    stack: RunningStack, tmp_path: Path, name: str, room: str, index: int, colour: str, tone_hz: int
) -> BrowserParticipant:
    workdir = tmp_path / name
    prefix = stack.client_prefix(f"browser-{name}", stack.client_address(index), workdir)
    return BrowserParticipant(prefix, _page(stack, room), name, workdir, colour=colour, tone_hz=tone_hz)


def _sees(browser: BrowserParticipant, report: dict, other: str, colour: str) -> bool:  # type: ignore[type-arg]
    seen = browser.of(report, other)
    if seen is None or not seen["video"]:
        return False
    middle = bytes(seen["video"]["grid"][3]).hex()
    whole = bytes(seen["video"]["colour"]).hex()
    return min(colour_distance(middle, colour), colour_distance(whole, colour)) <= NEAR


def _hears(browser: BrowserParticipant, report: dict, other: str, hz: int) -> bool:  # type: ignore[type-arg]
    seen = browser.of(report, other)
    peaks = seen["audio"]["peaks"] if seen and seen["audio"] else []
    return any(abs(peak["hz"] - hz) <= 15 and peak["db"] > -60 for peak in peaks)


def _terminal_hears(second: dict, hz: int) -> bool:  # type: ignore[type-arg]
    heard = second["heard"]
    return heard["level_db"] > -50 and any(abs(tone["hz"] - hz) <= 15 for tone in heard["tones"])


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
        ada.wait(lambda r: _sees(ada, r, "Baresip", "20c040"), 20, "the browser sees baresip's green")
        ada.wait(lambda r: _hears(ada, r, "Baresip", 600), 20, "the browser hears baresip's 600 Hz")
        received = baresip.snapshot()
        colour = mean_colour(received)
        assert colour_distance(colour, "c03020") <= NEAR, f"baresip sees #{colour}, not the browser's red"
        ada.screenshot(pictures / "browser-with-baresip.png")
        baresip.hang_up()
        ada.wait(lambda r: ada.of(r, "Baresip") is None, 10, "baresip has left the room")
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
        grace.wait(lambda r: _sees(grace, r, "Room 101", "1e90ff"), 25, "the browser sees the terminal")
        grace.wait(lambda r: _hears(grace, r, "Room 101", 500), 20, "the browser hears the terminal")
        terminal.wait(
            lambda s: s["seen"]["frames"] > 5 and colour_distance(s["seen"]["colour"], "c03020") <= NEAR,
            20,
            "the terminal sees the browser",
        )
        terminal.wait(lambda s: _terminal_hears(s, 800), 20, "the terminal hears the browser")
        grace.screenshot(pictures / "demo-page.png")
        summary = terminal.hang_up()
    assert summary["verdict"] == "ok", summary
    assert colour_distance(mean_colour(snapshot), "c03020") <= NEAR
    print(f"INVITE to 200: {summary['connected_ms']} ms, to first frame: {summary['first_frame_ms']} ms")


def test_smd_call_shows_what_comes_back_from_a_room_that_was_empty(stack: RunningStack) -> None:
    summary = summary_of(stack.smd("call", "empty", "--json", "--seconds", "8"))
    assert summary["verdict"] == "ok"
    assert colour_distance(summary["last"]["seen"]["code_colour"], "ff8c00") <= NEAR
    assert _terminal_hears(summary["last"], 660)


def test_two_sip_calls_in_one_room_see_and_hear_each_other(stack: RunningStack) -> None:
    with (
        Terminal(stack, "third", "--colour", "ff8000", "--tone", "440", "--name", "One", *SMALL) as one,
        Terminal(stack, "third", "--colour", "8000ff", "--tone", "660", "--name", "Two", *SMALL) as two,
    ):
        for terminal, colour, hz in ((one, "8000ff", 660), (two, "ff8000", 440)):
            terminal.wait(
                lambda s, want=colour: (
                    s["seen"]["frames"] > 5  # type: ignore[misc]
                    and colour_distance(s["seen"]["code_colour"] or "000000", want) <= NEAR
                ),
                25,
                f"a terminal sees #{colour}",
            )
            terminal.wait(lambda s, want=hz: _terminal_hears(s, want), 15, f"a terminal hears {hz} Hz")  # type: ignore[misc]
        assert one.hang_up()["verdict"] == "ok"
        assert two.hang_up()["verdict"] == "ok"


def test_the_picture_follows_the_speaker_and_everybody_is_heard(stack: RunningStack, tmp_path: Path) -> None:
    with (
        _browser(stack, tmp_path, "Ada", "fourth", 1, "c03020", 800) as ada,
        _browser(stack, tmp_path, "Alan", "fourth", 2, "2030c0", 1200) as alan,
        Terminal(stack, "fourth", "--tone", "500", "--name", "Room 101", *SMALL) as terminal,
    ):
        terminal.wait(
            lambda s: _terminal_hears(s, 800) and _terminal_hears(s, 1200), 25, "the terminal hears both"
        )

        def sees(colour: str) -> None:
            terminal.wait(
                lambda s: s["seen"]["frames"] > 5 and colour_distance(s["seen"]["colour"], colour) <= NEAR,
                15,
                f"the terminal sees #{colour}",
            )

        alan.press("microphone")
        sees("c03020")
        alan.press("microphone")
        ada.press("microphone")
        sees("2030c0")
        assert terminal.hang_up()["verdict"] == "ok"


def test_a_call_without_picture_has_sound_both_ways(stack: RunningStack, tmp_path: Path) -> None:
    options = ["--audio-only", "--codec", "PCMA", "--tone", "500", "--name", "Phone"]
    with (
        _browser(stack, tmp_path, "Grace", "fifth", 1, "c03020", 800) as grace,
        Terminal(stack, "fifth", *options) as phone,
    ):
        phone.wait(lambda s: _terminal_hears(s, 800), 20, "the phone hears the browser")
        grace.wait(lambda r: _hears(grace, r, "Phone", 500), 15, "the browser hears the phone")
        assert phone.hang_up()["verdict"] == "ok"
