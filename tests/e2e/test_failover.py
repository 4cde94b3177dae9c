"""Things die while calls stand: the calls go on, or end in order, and what died is replaced."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.harness.probe import SipProbe
from tests.harness.running import RunningStack, eventually, run
from tests.harness.terminal import SMALL, Terminal

pytestmark = pytest.mark.e2e


def _sound_and_picture(second: dict) -> bool:  # type: ignore[type-arg]
    return bool(second["heard"]["level_db"] > -50 and second["seen"]["frames"] > 5)


def _reinvite(stack: RunningStack) -> None:
    """Make every `smd call` of the stack send a re-INVITE."""
    found = run("docker", "ps", "-q", "--filter", f"name=smd-{stack.name}-call-").split()
    assert found, "no test call runs"
    for container in found:
        run("docker", "kill", "--signal", "SIGUSR1", container)


def test_a_killed_kamailio_costs_no_call_and_its_address_moves(stack: RunningStack) -> None:
    stack.wait_whole()
    killed = stack.active("kamailio")
    with (
        Terminal(stack, "failover", "--name", "One", "--source-port", "5066", "--tone", "440", *SMALL) as one,
        Terminal(stack, "failover", "--name", "Two", "--tone", "660", *SMALL) as two,
        SipProbe(stack.service_address("kamailio")) as probe,
    ):
        one.wait(_sound_and_picture, 25, "sound and picture come back")
        eventually(lambda: probe.answered > 20, 10, "the service address answers")

        run("docker", "kill", killed["id"])
        answered = probe.answered
        eventually(lambda: probe.answered > answered + 20, 15, "the service address answers again")

        _reinvite(stack)
        eventually(
            lambda: [e for e in one.events if e["event"] == "reinvited" and e["status"] == 200],
            10,
            "a re-INVITE is answered through the other Kamailio",
        )
        last = one.events[-1]["t"] if one.events[-1]["event"] == "second" else 0
        one.wait(lambda s: s["t"] >= last + 3 and _sound_and_picture(s), 15, "media goes on")
        with Terminal(stack, "failover", "--name", "Three", "--tone", "880", *SMALL) as three:
            three.wait(_sound_and_picture, 25, "a new call goes through")
            assert three.hang_up()["verdict"] == "ok"
        summaries = [one.hang_up(), two.hang_up()]
    for summary in summaries:
        assert summary["verdict"] == "ok", summary
        assert summary["bye_status"] == 200, "the BYE was not answered through the other Kamailio"
        assert summary["longest_audio_gap_ms"] < 2000, "media paused, though it does not pass Kamailio"
    assert stack.active("kamailio")["name"] != killed["name"]
    print(f"gap of the service address: {probe.longest_gap_s():.2f} s")
    assert probe.longest_gap_s() < 5, "the address moved, but far too late"
    stack.wait_whole()


def test_a_killed_media_worker_costs_its_own_call_only(stack: RunningStack) -> None:
    with (
        Terminal(stack, "workers", "--name", "One", "--tone", "440", *SMALL) as one,
        Terminal(stack, "workers", "--name", "Two", "--tone", "660", *SMALL) as two,
    ):
        one.wait(_sound_and_picture, 25, "sound and picture come back")
        two.wait(_sound_and_picture, 25, "sound and picture come back")
        os.kill(_worker_of(stack, "One"), signal.SIGKILL)
        summary = one.wait_ended(10)
        assert summary["ended_by"] == "peer", "the terminal got no BYE"
        last = max(e["t"] for e in two.events if e["event"] == "second")
        two.wait(lambda s: s["t"] >= last + 3 and s["audio_out"]["packets"] > 0, 15, "the other call goes on")
        assert two.hang_up()["bye_status"] == 200
    metrics = [stack.gateway_server(one["id"], "/metrics") for one in stack.replicas("gateway")]
    counted = [
        line for text in metrics for line in text.splitlines() if "worker" in line and "_total" in line
    ]
    assert counted, f"the end's reason is not counted in {metrics}"


def _worker_of(stack: RunningStack, display_name: str) -> int:
    """The process id, on this host, of the media worker of one call."""
    for gateway in stack.replicas("gateway"):
        calls = json.loads(stack.gateway_server(gateway["id"], "/calls"))
        inside = [call["worker_pid"] for call in calls if call["name"] == display_name]
        if inside:
            return _host_pid(gateway["id"], inside[0])
    raise AssertionError(f"no gateway has a call of {display_name}")


def _host_pid(container: str, inside: int) -> int:
    for line in run("docker", "top", container, "-eo", "pid").splitlines()[1:]:
        status = Path(f"/proc/{line.strip()}/status").read_text(encoding="utf-8")
        numbers = next(row for row in status.splitlines() if row.startswith("NSpid:")).split()[1:]
        if int(numbers[-1]) == inside:
            return int(numbers[0])
    raise AssertionError(f"process {inside} of container {container} is not there")


def test_a_killed_gateway_is_replaced(stack: RunningStack) -> None:
    stack.wait_whole()
    before = {one["name"] for one in stack.replicas("gateway")}
    for gateway in stack.replicas("gateway"):
        run("docker", "kill", gateway["id"])

    def replaced() -> bool:
        now = [one for one in stack.replicas("gateway") if one["name"] not in before]
        return any(one["state"] in ("ready", "busy") for one in now)

    eventually(replaced, 60, "a new gateway is ready", every=1)
    stack.wait_whole()
    with (
        Terminal(stack, "replaced", "--name", "One", *SMALL),
        Terminal(stack, "replaced", "--name", "Two", *SMALL) as two,
    ):
        two.wait(_sound_and_picture, 25, "calls go through the new gateway")
        assert two.hang_up()["verdict"] == "ok"


def test_a_removed_kamailio_and_coturn_are_replaced(stack: RunningStack) -> None:
    stack.wait_whole()
    for role in ("kamailio", "coturn"):
        run("docker", "rm", "-f", stack.active(role)["id"])
    stack.wait_whole(120)
