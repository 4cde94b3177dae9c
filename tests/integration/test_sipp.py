"""The scripted caller against a real terminal."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.harness import sipp
from tests.harness.baresip import Baresip, Settings
from tests.harness.ports import free_port

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("media", [False, True])
def test_a_call_with_a_reinvite_keeps_its_source_port(tmp_path: Path, media: bool) -> None:
    port = free_port(socket.SOCK_DGRAM)
    settings = Settings(tmp_path / "baresip", "127.0.0.1", video=False, audio_codecs=("pcma",))
    with Baresip(settings) as baresip:
        caller = sipp.Caller(
            tmp_path / "sipp", f"127.0.0.1:{baresip.sip_port}", "baresip", "127.0.0.1", port, media=media
        )
        outcome = sipp.finish(caller, sipp.start(caller), timeout=30)
        baresip.wait_for("CALL_CLOSED", 15)
        heard = baresip.recording().stat().st_size

    assert outcome.ok, outcome.output + outcome.messages
    assert outcome.failed == 0
    assert outcome.messages.count("\nINVITE ") >= 2
    assert outcome.messages.count(f"Via: SIP/2.0/UDP 127.0.0.1:{port}") >= 5
    assert (heard > 8000) == media


def test_calls_that_are_refused_are_counted(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "baresip", "127.0.0.1", video=False, audio_codecs=("pcma",))
    with Baresip(settings) as baresip:
        target = f"127.0.0.1:{baresip.sip_port}"
        caller = sipp.Caller(
            tmp_path / "sipp", target, "nobody", "127.0.0.1", free_port(socket.SOCK_DGRAM), calls=2, per_s=10
        )
        outcome = sipp.finish(caller, sipp.start(caller), timeout=30)
    assert not outcome.ok
    assert outcome.failed == 2
    assert "SIP/2.0 404" in outcome.messages
