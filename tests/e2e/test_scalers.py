"""Scalers die, freeze and stop: one leads at any time, and what died meanwhile is replaced."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.harness.running import RunningStack, eventually, run

pytestmark = pytest.mark.e2e
D_S = 3.0
SEEN_S = 3.0
"""Agents look at their scaler every second or two."""


def another_leads(stack: RunningStack, old: str) -> dict[str, Any] | None:
    return next((one for one in stack.replicas("scaler") if one.get("active") and one["name"] != old), None)


def test_a_killed_leader_is_followed_and_replaced(stack: RunningStack) -> None:
    stack.wait_whole()
    old = stack.active("scaler")
    run("docker", "kill", old["id"])
    killed = time.monotonic()
    new = eventually(lambda: another_leads(stack, old["name"]), 20, "the standby leads")
    took = time.monotonic() - killed
    print(f"another scaler leads {took:.1f} s after the leader was killed")
    assert took < 2.5 * D_S + 2 + SEEN_S
    assert new["term"] >= old["term"]
    stack.wait_whole()
    assert old["name"] not in {one["name"] for one in stack.replicas("scaler")}


def test_a_stopped_leader_hands_over_at_once(stack: RunningStack) -> None:
    stack.wait_whole()
    old = stack.active("scaler")
    began = time.monotonic()
    run("docker", "stop", "--time", "10", old["id"])
    eventually(lambda: another_leads(stack, old["name"]), 10, "the standby leads")
    took = time.monotonic() - began
    print(f"another scaler leads {took:.1f} s after the leader was told to stop")
    assert took < 2 + SEEN_S + 3
    stack.wait_whole()


def test_a_leader_that_was_frozen_stands_by_when_it_goes_on(stack: RunningStack) -> None:
    stack.wait_whole()
    old = stack.active("scaler")
    run("docker", "pause", old["id"])
    try:
        new = eventually(lambda: another_leads(stack, old["name"]), 20, "the standby leads")
    finally:
        run("docker", "unpause", old["id"])

    def stands_by() -> bool:
        mine = [one for one in stack.replicas("scaler") if one["name"] == old["name"]]
        return not mine or mine[0].get("active") is False

    eventually(stands_by, 15, "the old leader stands by, or was replaced meanwhile")
    stack.wait_whole()
    assert stack.active("scaler")["name"] == new["name"]


def test_with_all_scalers_dead_the_address_moves_and_one_that_is_started_mends_the_rest(
    stack: RunningStack,
) -> None:
    stack.wait_whole()
    scalers = stack.replicas("scaler")
    for scaler in scalers:
        run("docker", "kill", scaler["id"])
    killed = stack.active("kamailio")
    run("docker", "kill", killed["id"])

    def moved() -> bool:
        active = [one for one in stack.replicas("kamailio") if one.get("active")]
        return bool(active) and active[0]["name"] != killed["name"]

    eventually(moved, 10, "the other Kamailio holds the address")
    run("docker", "start", scalers[0]["id"])
    stack.wait_whole(120)
