"""The command line says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipmediadeploy.gateway.sip.api import Hop
from sipmediadeploy.gateway.testcall.options import parse_options


def test_the_smallest_command_line_is_a_video_call() -> None:
    options = parse_options(["demo", "--to", "192.0.2.10"])
    assert options.proxy == Hop("192.0.2.10", 5060, "udp")
    assert options.uri == "sip:demo@192.0.2.10"
    assert options.video
    assert options.seconds is None


def test_the_uri_names_port_and_transport_unless_a_domain_is_given() -> None:
    arguments = ["demo", "--to", "192.0.2.10:5080", "--transport", "tcp"]
    assert parse_options(arguments).uri == "sip:demo@192.0.2.10:5080;transport=tcp"
    assert parse_options([*arguments, "--domain", "example.org"]).uri == "sip:demo@example.org;transport=tcp"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "big"], "WIDTHxHEIGHT"),
        (["--size", "641x360"], "even numbers"),
        (["--size", "8000x4000"], "even numbers"),
        (["--colour", "red"], "six hexadecimal digits"),
        (["--seconds", "soon"], "not a number of seconds"),
        (["--seconds", "0"], "not between"),
        (["--seconds", "nan"], "not between"),
        (["--fps", "0"], "not between"),
        (["--tone", "9000"], "not between"),
        (["--to", "host:port"], "HOST:PORT"),
        (["--to", ":5060"], "HOST:PORT"),
        (["--file", "/nowhere/film.mkv"], "no such file"),
        (["--codec", "G729"], "invalid choice"),
    ],
)
def test_a_wrong_option_is_refused_in_words(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(["demo", "--to", "192.0.2.10", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_file_is_encoded_before_the_call(tmp_path: Path) -> None:
    file = tmp_path / "film.mkv"
    file.touch()
    assert parse_options(["demo", "--to", "192.0.2.10", "--file", str(file)]).preencoded
