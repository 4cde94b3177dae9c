"""The test terminal against a real one from somebody else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.baresip import Baresip, Settings
from tests.harness.media_tools import (
    CODE_AREA,
    colour_distance,
    dominant_frequency,
    json_lines,
    mean_colour,
    read_wav,
    summary_of,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def baresip(tmp_path: Path) -> Iterator[Baresip]:
    with Baresip(Settings(tmp_path / "baresip", "127.0.0.1", colour="20c040", tone_hz=600)) as terminal:
        yield terminal


def start_call(baresip: Baresip, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "sipmediadeploy.gateway.testcall", "baresip", "--json"),
            *("--to", f"127.0.0.1:{baresip.sip_port}", "--size", "640x360"),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("codec", ["PCMA", "PCMU", "opus"])
def test_sound_and_picture_arrive_unchanged_on_both_sides(
    baresip: Baresip, tmp_path: Path, codec: str
) -> None:
    picture = tmp_path / "last.png"
    call = start_call(
        baresip,
        "--codec",
        codec,
        "--colour",
        "c02040",
        "--tone",
        "1000",
        "--seconds",
        "8",
        "--snapshot",
        str(picture),
    )
    baresip.wait_for("CALL_ESTABLISHED", 15)
    shot = baresip.snapshot()
    output, errors = call.communicate(timeout=40)
    baresip.wait_for("CALL_CLOSED", 5)

    assert call.returncode == 0, output + errors
    summary = summary_of(output)
    assert summary["verdict"] == "ok"
    assert 0 < summary["first_frame_ms"] < 15000
    assert [round(tone["hz"] / 10) for tone in summary["last"]["heard"]["tones"]] == [60]
    assert colour_distance(summary["last"]["seen"]["colour"], "20c040") < 30
    assert colour_distance(mean_colour(picture), "20c040") < 30
    assert colour_distance(mean_colour(shot, CODE_AREA), "c02040") < 30
    samples, rate = read_wav(baresip.recording())
    assert dominant_frequency(samples[rate:], rate) == pytest.approx(1000, abs=5)


def test_media_goes_on_after_a_reinvite_and_an_interrupt_hangs_up(baresip: Baresip) -> None:
    call = start_call(baresip)
    baresip.wait_for("CALL_ESTABLISHED", 15)
    assert call.stdout is not None
    seen: list[str] = []
    for line in call.stdout:
        seen.append(line)
        events = json_lines(seen)
        seconds = [event for event in events if event["event"] == "second"]
        again = [event for event in events if event["event"] == "reinvited"]
        if len(seconds) == 2 and not again and events[-1]["event"] == "second":
            call.send_signal(signal.SIGUSR1)
        if again and seconds[-1]["t"] >= 5:
            break
    call.send_signal(signal.SIGINT)
    rest, errors = call.communicate(timeout=20)

    summary = summary_of("".join(seen) + rest)
    assert call.returncode == 0, errors
    assert again[0]["status"] == 200
    assert summary["bye_status"] == 200
    assert summary["last"]["seen"]["frames"] > 5
    assert summary["last"]["audio_in"]["packets"] > 200
    baresip.wait_for("CALL_CLOSED", 5)


def test_a_call_that_the_other_side_ends_is_judged_by_what_came(baresip: Baresip) -> None:
    call = start_call(baresip, "--audio-only", "--codec", "PCMA")
    baresip.wait_for("CALL_ESTABLISHED", 15)
    assert call.stdout is not None
    for line in call.stdout:
        if '"second"' in line:
            break
    baresip.hang_up()
    rest, errors = call.communicate(timeout=20)
    assert call.returncode == 0, rest + errors
    assert summary_of(rest)["ended_by"] == "peer"


def test_a_picture_that_does_not_come_is_a_failure(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "baresip", "127.0.0.1", video=False)
    with Baresip(settings) as baresip:
        call = start_call(baresip, "--seconds", "3")
        output, errors = call.communicate(timeout=30)
    assert call.returncode == 1, output + errors
    assert any("picture" in problem for problem in summary_of(output)["problems"])


def test_a_refused_call_names_the_status(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "baresip", "127.0.0.1", audio_codecs=("opus",), video=False)
    with Baresip(settings) as baresip:
        call = start_call(baresip, "--seconds", "3", "--codec", "PCMA", "--audio-only")
        output, _ = call.communicate(timeout=30)
    assert call.returncode == 2
    assert json_lines(output)[-1] == {
        "event": "error",
        "message": "the call was refused: 488 Not Acceptable Here",
        "status": 488,
    }
