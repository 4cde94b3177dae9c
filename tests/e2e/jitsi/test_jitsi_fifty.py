"""Fifty calls, one after the other, leave nothing in the gateway and nothing in the bridge."""

from __future__ import annotations

import json

import pytest

from tests.e2e.jitsi.meeting import Meeting
from tests.harness.running import eventually, run

pytestmark = pytest.mark.e2e


def test_fifty_calls_leave_nothing_behind(meeting: Meeting) -> None:
    gateway = meeting.stack.replicas("gateway")[0]["id"]

    def call_often(number: int) -> None:
        for _ in range(number):
            with meeting.terminal("fifty", seconds=1) as terminal:
                assert terminal.wait_ended(30)["ended_by"] == "here"

    with meeting.browser("Ada", "fifty", query="codecs=H264,VP8", seconds=600) as ada:
        call_often(5)
        before = _server(gateway)
        call_often(45)
        ada.wait(lambda r: ada.of(r, "Room 101") is None, 45, "the last terminal has left")
        after = eventually(lambda: _idle(meeting, gateway), 30, "the gateway has no calls")
        assert after["fds"] <= before["fds"] + 4, f"open files: {before['fds']}, then {after['fds']}"
        grown = (after["memory"] - before["memory"]) / 1e6
        print(f"in 45 calls the server grew by {grown:.1f} MB, and has {after['fds']} open files")
        assert grown < 8
        eventually(
            lambda: meeting.jitsi.bridge_stats()["participants"] <= 1,
            45,
            "the browser alone is on the bridge",
        )
    eventually(lambda: meeting.jitsi.bridge_stats()["conferences"] == 0, 90, "the bridge has no conference")


def _idle(meeting: Meeting, gateway: str) -> dict[str, int] | None:
    return _server(gateway) if meeting.stack.gateway_server(gateway, "/calls").strip() == "[]" else None


def _server(gateway: str) -> dict[str, int]:
    """Open files and resident memory (bytes) of the gateway's server process."""
    program = (
        "import glob, json, os\n"
        "for at in glob.glob('/proc/[0-9]*'):\n"
        "    words = open(at + '/cmdline').read().split('\\0')\n"
        "    if 'sipmediadeploy.gateway.server' in words:\n"
        "        pages = int(open(at + '/statm').read().split()[1])\n"
        "        print(json.dumps({'fds': len(os.listdir(at + '/fd')), 'memory': 4096 * pages}))\n"
        "        break\n"
    )
    found: dict[str, int] = json.loads(
        run("docker", "exec", "--user", "root", gateway, "python3", "-c", program)
    )
    return found
