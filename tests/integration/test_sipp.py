"""The scripted caller against a real terminal."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests import sipp
from tests.baresip import Baresip, Settings

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("media", [False, True])
def test_a_call_with_a_reinvite_keeps_its_source_port(tmp_path: Path, media: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(tmp_path / "baresip", "127.0.0.1", video=False, audio_codecs=("pcma",))
    with Baresip(settings) as baresip:
        caller = sipp.Caller(
            tmp_path / "sipp", f"127.0.0.1:{baresip.sip_port}", "baresip", "127.0.0.1", port, media=media
        )
        outcome = sipp.finish(caller, sipp.start(caller), timeout=30)
        baresip.wait_for("CALL_CLOSED", 15)
        heard = baresip.recording().stat().st_size

    assert outcome.ok, outcome.output + outcome.messages
    assert outcome.messages.count("\nINVITE ") >= 2
    assert outcome.messages.count(f"Via: SIP/2.0/UDP 127.0.0.1:{port}") >= 5
    assert (heard > 8000) == media
