"""The stack file says ``turn: always``: a Jitsi call's media goes through the stack's own TURN server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.jitsi.meeting import RED, Meeting, wait_both_ways
from tests.harness.jitsi.backend import MEDIA_PORT
from tests.harness.running import RunningStack, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def relaying(jitsi_stack: RunningStack) -> Iterator[RunningStack]:
    """The stack with ``turn: always``; it is as before at the end."""
    before = jitsi_stack.stack_file.read_text()
    try:
        yield _with(jitsi_stack, f"{before}turn: always\n")
    finally:
        _with(jitsi_stack, before)


def test_media_goes_through_our_turn_server_alone(meeting: Meeting, relaying: RunningStack) -> None:
    with (
        meeting.browser("Ada", "relayed", query="codecs=H264,VP8") as ada,
        meeting.terminal("relayed") as terminal,
    ):
        wait_both_ways(ada, terminal, meeting, colour=RED)
        around = [_packets(meeting, gateway["id"]) for gateway in relaying.replicas("gateway")]
        through = _packets(meeting, relaying.active("coturn")["id"])
        assert terminal.hang_up()["verdict"] == "ok"
    assert through >= 50
    assert not any(around), "the gateway talks to the bridge past the TURN server"


def _with(stack: RunningStack, text: str) -> RunningStack:
    """The stack file with another text, in force on every gateway."""
    if stack.stack_file.read_text() != text:
        old = {one["name"] for one in stack.replicas("gateway")}
        stack.stack_file.write_text(text)
        stack.smd("up")
        eventually(
            lambda: not old & {one["name"] for one in stack.replicas("gateway")},
            90,
            "the gateways are new ones",
            every=1,
        )
        stack.wait_whole()
    return stack


def _packets(meeting: Meeting, container: str) -> int:
    """UDP packets between a container and the bridge in two seconds; no more than 50 are counted."""
    words = ["docker", "run", "--rm", "--network", f"container:{container}", meeting.stack.test_image]
    words += ["timeout", "2", "tcpdump", "-n", "-q", "-i", "eth0", "-c", "50"]
    words += ["udp", "and", "host", str(meeting.jitsi.address), "and", "port", str(MEDIA_PORT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return sum(" UDP" in line for line in done.stdout.splitlines())
