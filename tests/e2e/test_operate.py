"""An operator's hands: each command on a running stack, and what the audit trail says of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from typing import Any

import pytest

from tests.harness.probe import SipProbe
from tests.harness.running import RunningStack, eventually, run

pytestmark = pytest.mark.e2e


def told(stack: RunningStack, event: str, replica: str = "", since: float = 0.0) -> list[dict[str, Any]]:
    return [
        one
        for one in stack.events()
        if one["event"] == event and replica in one["fields"].get("replica", "") and one["at"] >= since
    ]


def test_the_status_is_told_as_json(stack: RunningStack) -> None:
    names = {one["name"] for one in stack.wait_whole()["replicas"]}
    told_by_command = json.loads(stack.smd("status", "--json"))
    assert {one["name"] for one in told_by_command["replicas"]} == names
    assert told_by_command["whole"]


@pytest.mark.promise(6)
def test_while_paused_nothing_is_done_by_any_leader(stack: RunningStack) -> None:
    stack.wait_whole()
    assert "watch only" in stack.smd("pause")
    began = time.time()
    try:
        assert "another scaler leads" in stack.smd("failover", "scaler")
        gateway = stack.replicas("gateway")[0]
        run("docker", "rm", "-f", gateway["id"])
        eventually(lambda: told(stack, "leads", since=began), 45, "another scaler leads")

        def knows() -> bool:
            # Just then its agent may not have seen yet that it leads.
            return any("paused" in one["reason"] for one in stack.replicas("scaler") if one.get("active"))

        eventually(knows, 45, "it knows that it is paused", every=0.5)
        time.sleep(5)  # long enough to do something
        assert not told(stack, "create started", since=began), "a replica was made while paused"
    finally:
        stack.smd("resume")
    stack.wait_whole()
    assert told(stack, "create started", "gateway", began)


@pytest.mark.promise(3)
def test_a_planned_failover_costs_no_answer(stack: RunningStack) -> None:
    stack.wait_whole()
    old = stack.active("kamailio")["name"]
    with SipProbe(stack.service_address("kamailio")) as probe:
        eventually(lambda: probe.answered > 20, 45, "the service address answers")
        assert f"{old} is standby now" in stack.smd("failover", "kamailio")
        answered = probe.answered
        eventually(lambda: probe.answered > answered + 20, 45, "the service address answers")
        gap = probe.longest_gap_s()
    print(f"gap of the service address in a planned failover: {gap:.2f} s")
    assert gap < 5.0, "0.1 s is measured"
    assert stack.active("kamailio")["name"] != old
    stack.wait_whole()
    assert told(stack, "failover done", old)


@pytest.mark.promise(1)
def test_a_drained_gateway_stays_drained_until_it_is_undrained(stack: RunningStack) -> None:
    stack.wait_whole()
    name = stack.replicas("gateway")[0]["name"]
    assert "takes no new work" in stack.smd("drain", name)
    stack.wait_whole()  # its places are made elsewhere
    mine = next(one for one in stack.replicas("gateway") if one["name"] == name)
    assert (mine["state"], mine["drained_by"]) == ("drained", "operator")
    stack.smd("undrain", name)
    eventually(
        lambda: next(one for one in stack.replicas("gateway") if one["name"] == name)["state"] == "ready",
        45,
        "it takes work again",
    )


def test_a_replica_that_an_operator_wants_replaced_is_replaced(stack: RunningStack) -> None:
    stack.wait_whole()
    names = [stack.active(role)["name"] for role in ("coturn", "scaler")]
    for name in names:
        assert "is being replaced" in stack.smd("replace", name)

    def gone() -> bool:
        return not {one["name"] for one in stack.status()["replicas"]} & set(names)

    eventually(gone, 90, f"{' and '.join(names)} are gone", every=1)
    stack.wait_whole()
    for name in names:
        (asked,) = told(stack, "replace asked", name)
        assert told(stack, "delete done", name, asked["at"])


def test_watch_shows_replicas_and_events_until_it_is_interrupted(stack: RunningStack) -> None:
    stack.wait_whole()
    stack.smd("pause")
    stack.smd("resume")
    wanted = {one["name"] for one in stack.status()["replicas"]} | {"resume asked"}
    terminal, own = pty.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    # Neither of the terminal nor of the ignored signals that pytest has when it runs in the background.
    clean = ("--default-signal=INT", "--unset=COLUMNS", "--unset=LINES")
    words = ["env", *clean, "TERM=xterm", *stack.command("watch")]
    watching = subprocess.Popen(words, stdin=own, stdout=own, stderr=own)
    os.close(own)
    shown = bytearray()
    missing = set(wanted)
    deadline = time.monotonic() + 60
    try:
        while missing and time.monotonic() < deadline:
            shown.extend(os.read(terminal, 65536))
            missing = {one for one in wanted if one.encode() not in shown}
    finally:
        watching.send_signal(signal.SIGINT)
        shown.extend(until_closed(terminal))
        os.close(terminal)
    assert watching.wait(45) == 130
    assert not missing, shown[-5000:].decode()
    assert b"Traceback" not in shown


def until_closed(terminal: int) -> bytes:
    """What is written to a terminal until its last writer closes it."""
    said = bytearray()
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(terminal, 65536):
            said.extend(data)
    return bytes(said)


def test_what_cannot_be_done_is_said_in_one_line(stack: RunningStack) -> None:
    words = stack.command("drain", "gateway-99")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("smd: no replica is named gateway-99. There are: ")
    assert "Traceback" not in done.stderr


@pytest.mark.promise(6)
def test_the_trail_tells_why_and_survives_its_writer(stack: RunningStack) -> None:
    stack.wait_whole()
    before = {one["id"] for one in stack.events()}
    assert before
    text = stack.smd("events", "-n", "5")
    assert len(text.splitlines()) == 5
    run("docker", "rm", "-f", stack.active("scaler")["id"])
    stack.wait_whole()
    after = stack.events()
    assert len(before - {one["id"] for one in after}) <= 3, "the last seconds' entries at most are lost"
    assert all(one["fields"].get("reason") for one in after if one["event"].startswith(("create", "delete")))
