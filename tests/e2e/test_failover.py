"""Parts die, or are stopped in order: other calls go on, and what died is replaced.

What happens to Kamailio, Coturn and the leader is in test_faults.py.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.harness.running import RunningStack, eventually, run
from tests.harness.terminal import SMALL, Terminal

pytestmark = pytest.mark.e2e


def _sound_and_picture(second: dict) -> bool:  # type: ignore[type-arg]
    return bool(second["heard"]["level_db"] > -50 and second["seen"]["frames"] > 5)


def test_a_killed_media_worker_costs_its_own_call_only(stack: RunningStack) -> None:
    with (
        Terminal(stack, "workers", "--name", "One", "--tone", "440", *SMALL) as one,
        Terminal(stack, "workers", "--name", "Two", "--tone", "660", *SMALL) as two,
    ):
        one.wait(_sound_and_picture, 45, "sound and picture come back")
        two.wait(_sound_and_picture, 45, "sound and picture come back")
        os.kill(_worker_of(stack, "One"), signal.SIGKILL)
        summary = one.wait_ended(45)
        assert summary["ended_by"] == "peer", "the terminal got no BYE"
        last = max(e["t"] for e in two.events if e["event"] == "second")
        two.wait(lambda s: s["t"] >= last + 3 and s["audio_out"]["packets"] > 0, 45, "the other call goes on")
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


@pytest.mark.promise(5)
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
        two.wait(_sound_and_picture, 45, "calls go through the new gateway")
        assert two.hang_up()["verdict"] == "ok"


@pytest.mark.promise(6)
def test_a_leader_that_is_stopped_in_order_hands_over(stack: RunningStack) -> None:
    old = next(one for one in stack.wait_whole()["replicas"] if one["role"] == "scaler" and one.get("active"))
    began = time.time()
    run("docker", "stop", "--time", "10", old["id"])

    def told() -> list[float]:
        leads = [e for e in stack.events() if e["event"] == "leads" and e["at"] >= began]
        return [e["at"] for e in leads if e["who"] != old["name"]]

    took_s = min(eventually(told, 60, "the standby leads", every=0.5)) - began
    print(f"another scaler led {took_s:.1f} s after the leader was told to stop")
    stack.wait_whole()
    assert old["name"] not in {one["name"] for one in stack.replicas("scaler")}
