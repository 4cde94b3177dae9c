"""From nothing to a call; then whatever breaks in a cloud; and nothing is left."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness import terraform
from tests.harness.commit import read_commit
from tests.harness.openstack.cloud_stack import CloudStack
from tests.harness.openstack.fault_run import REPLACED_S, measure, turn_of
from tests.harness.openstack.packing import Packing
from tests.harness.running import eventually
from tests.harness.terminal import SMALL, Terminal
from tests.lab.stack.conftest import Deployed

pytestmark = pytest.mark.e2e
ANSWER_S = 5.0
"""Far over what is measured (benchmarks/openstack_failover.py): the machine is busy."""
_FIRST_REQUEST_S = 10.0
"""2 s are promised, and 1.7 s were measured; taking over a lease that others hold takes 13 s."""
_WANTED = {"kamailio": 2, "coturn": 2, "gateway": 2, "scaler": 2, "conference-demo": 1}
_BLUE, _ORANGE = "2040ff", "ff8c00"


def test_a_whole_stack_comes_from_nothing(stack: CloudStack, deployed: Deployed) -> None:
    print(
        f"\nimages by Packer {deployed.images_s:.0f} s; then the stack whole after {deployed.whole_s:.0f} s"
    )
    assert {one["role"] for one in stack.status()["replicas"]} == set(_WANTED)
    assert all(len(stack.replicas(role)) == number for role, number in _WANTED.items())


def test_images_are_built_by_packer_from_a_plain_debian(
    stack: CloudStack, deployed: Deployed, packing: Packing
) -> None:
    if not packing.is_due:
        pytest.skip(packing.why)
    if lacking := packing.lacking():
        pytest.skip(f"not installed, and not among this host's packages: {', '.join(lacking)}")
    assert all(f"image of {role}: built in" in deployed.said for role in packing.packed)
    packing.remember()  # the stack is whole, with replicas of these images


def test_the_first_replica_is_asked_for_as_soon_as_the_scaler_runs(stack: CloudStack) -> None:
    trail = stack.events()
    began = min(event["at"] for event in trail if event["event"] == "scaler starts")
    asked = min(event["at"] for event in trail if event["event"] == "create started")
    print(f"\nfirst replica asked for {asked - began:.2f} s after the scaler started")
    assert asked - began < _FIRST_REQUEST_S


def test_a_call_through_the_floating_ip_has_sound_and_picture(stack: CloudStack) -> None:
    one = Terminal(stack, "public", *SMALL, "--name", "one", "--tone", "440", "--colour", _BLUE)
    other = Terminal(stack, "public", *SMALL, "--name", "other", "--tone", "660", "--colour", _ORANGE)
    with one, other:
        one.wait_hears(660)
        one.wait_sees(_ORANGE)
        other.wait_hears(440)
        other.wait_sees(_BLUE)
        answered = next(event for event in one.events if event["event"] == "answered")
    print(f"\nanswered after {answered['ms']} ms; media at {answered['audio_to']}")
    # Media go past the Kamailios, to the gateway's own floating IP.
    assert not answered["audio_to"].startswith(f"{stack.floating_ip('kamailio')}:")


def test_only_root_reaches_the_metadata_service_on_a_replica(stack: CloudStack) -> None:
    url = "http://169.254.169.254/openstack/latest/meta_data.json"
    program = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).read().decode())"
    replica = stack.replicas("gateway")[0]
    assert replica["name"] in stack.in_instance(replica, "python3", "-c", program)
    as_user = ["setpriv", "--reuid", "smd", "--regid", "smd", "--clear-groups", "python3", "-c", program]
    with pytest.raises(AssertionError, match=r"refused|unreachable|timed out|not permitted|No route"):
        stack.in_instance(replica, *as_user)


def test_a_replica_has_no_secret_of_another(stack: CloudStack) -> None:
    master = (stack.stack_file.parent / "secrets.yaml").read_text().split("master:")[1].split()[0]
    for replica in stack.replicas("gateway") + stack.replicas("kamailio"):
        has = stack.in_instance(
            replica, "sh", "-c", "cat /etc/smd/replica.yaml /run/smd/* 2>/dev/null || true"
        )
        assert master not in has, replica["name"]
        said = stack.in_instance(replica, "journalctl", "--no-pager", "-o", "cat")
        assert master not in said, replica["name"]


COMMIT = read_commit()
FIRST, SECOND, THIRD = turn_of(COMMIT)


@pytest.mark.promise(2, 3, 5)
@pytest.mark.parametrize(
    ("faults", "removes"),
    [
        pytest.param([*FIRST, "leader-killed"], True, id="+".join([*FIRST, "leader-killed"])),
        pytest.param(SECOND, False, id="+".join(SECOND)),
        pytest.param(THIRD, True, id="+".join(THIRD), marks=pytest.mark.long),
    ],
)
def test_faults_cost_callers_seconds_and_no_dialog(
    stack: CloudStack, tmp_path: Path, faults: list[str], removes: bool
) -> None:
    """What broke is then removed by hand, but for one run: the scaler leaves a silent replica a minute."""
    print(f"\nit is the turn of these by the commit {COMMIT[:12]}")
    for measured in measure(stack, faults, tmp_path, removes=removes):
        print(f"\n{measured.line()}")
        assert measured.no_answer_s < ANSWER_S
        assert measured.established_lost == 0, measured.messages
    _one_leader_at_a_time(stack.events())


@pytest.mark.promise(3)
def test_a_floating_ip_that_was_taken_away_by_hand_is_put_back(stack: CloudStack) -> None:
    address = stack.floating_ip("kamailio")
    stack.detach_floating_ip("kamailio")
    assert not stack.is_attached(address)
    eventually(lambda: stack.is_attached(address), 60, "the floating IP is mapped again")
    with Terminal(stack, "again", "--audio-only", "--name", "again") as terminal:
        eventually(
            lambda: [event for event in terminal.events if event["event"] == "answered"],
            30,
            "a fresh caller is answered",
        )


@pytest.mark.promise(5)
def test_a_server_in_error_is_replaced(stack: CloudStack) -> None:
    replica = next(one for one in stack.replicas("kamailio") if not one.get("active"))
    stack.into_error(replica)
    stack.wait_gone(replica, 2 * REPLACED_S)  # in turn, as an outdated one: it may have calls
    stack.wait_whole(REPLACED_S)


def test_what_scalers_did_is_no_drift(stack: CloudStack) -> None:
    if stack.by_terraform is None:
        pytest.skip(terraform.WHY_NOT)
    assert "No changes." in stack.plan()


def test_its_end_leaves_nothing(stack: CloudStack) -> None:
    began = time.monotonic()
    (said,) = [line for line in stack.remove().splitlines() if line][-1:]
    print(f"\n{said}, after {time.monotonic() - began:.0f} s")
    assert stack.left() == []


def _one_leader_at_a_time(trail: list[dict[str, Any]]) -> None:
    """Terms rise, and nobody leads in a term of somebody else's."""
    led = [(event["fields"]["term"], event["who"]) for event in trail if event["event"] == "leads"]
    by_term = {term: {who for other, who in led if other == term} for term, _ in led}
    assert all(len(who) == 1 for who in by_term.values()), by_term
    assert all(one <= other for (one, _), (other, _) in itertools.pairwise(led)), led
