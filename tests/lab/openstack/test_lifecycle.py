"""The lab is brought up and down whatever happened to it before, and leaves this host as it was."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.openstack.settings import NETWORK, Lab
from tests.lab.openstack import host, lifecycle
from tests.lab.openstack.inside.api import Api, wait_for
from tests.lab.openstack.tenants import COMMAND, Tenant, read_page, run_lab, say, tenant_of

_WARM_LIMIT_S = 400
# Docker's, which come and go beside these tests; the lab makes no bridge on this host.
_DOCKERS = re.compile(r"veth[0-9a-f]{7}|docker|/run/docker|\bmaster\b")


def things_on_this_host(lab: Lab) -> set[str]:
    """What a lab could leave: interfaces, routes, rules, mounts, namespaces, loop devices, control groups."""

    def lines(*command: str) -> list[str]:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [f"{' '.join(command[:4])}: {' '.join(line.split())}" for line in text.splitlines()]

    links = json.loads(subprocess.run(["ip", "-json", "-d", "link"], capture_output=True, check=True).stdout)
    bridges = {link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") == "bridge"}
    found = [
        f"link {link['ifname']}" for link in links if link["ifname"] not in bridges and "master" not in link
    ]
    found += lines("ip", "-4", "route", "show", "table", "all")
    found += lines("ip", "-6", "route", "show", "table", "all")
    found += [*lines("ip", "rule"), *lines("ip", "-6", "rule"), *lines("ip", "netns")]
    found += lines("losetup", "--noheadings", "--list", "--output", "NAME")
    found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()]
    found += [f"group {group}" for group in host.cgroups(lab) if group.exists()]
    devices = re.compile("|".join(rf"\bdev {re.escape(name)}\b" for name in bridges) or "$^")
    return {line for line in found if not _DOCKERS.search(line) and not devices.search(line)}


@pytest.fixture
def before(lab: Lab) -> Iterator[set[str]]:
    """What is on this host without a lab, which is looked at again when the lab of a test is down."""
    lifecycle.down(lab, say)
    before = things_on_this_host(lab)
    yield before
    lifecycle.down(lab, say)
    end = time.monotonic() + 10
    while (left := things_on_this_host(lab) - before) and time.monotonic() < end:
        time.sleep(0.2)  # others on this host make and remove things, too
    assert not left
    assert not host.processes(lab)


def start_up() -> subprocess.Popen[str]:
    """`lab up` under way."""
    return subprocess.Popen(
        [str(COMMAND), "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_up(process: subprocess.Popen[str]) -> None:
    """Kill `lab up` itself and what it was just running, and nothing that it has started for good."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_down_leaves_nothing_and_can_be_repeated(before: set[str], lab: Lab) -> None:
    lifecycle.up(lab, say)
    assert host.has_link(lab.name)
    first = host.process_one(lab)
    lifecycle.up(lab, say)
    assert host.process_one(lab) == first
    lifecycle.down(lab, say)
    assert not host.has_link(lab.name)
    lifecycle.down(lab, say)


def test_instances_come_back_with_their_addresses(before: set[str], lab: Lab) -> None:
    lifecycle.up(lab, say)
    with tenant_of(lab) as tenant:
        server, address = tenant.server(tenant.network("again"), "again")
        wait_for("the instance", lambda: read_page(address, "id") == server["id"], _WARM_LIMIT_S)
        lifecycle.down(lab, say)
        lifecycle.up(lab, say)
        started = time.monotonic()
        wait_for("the instance again", lambda: read_page(address, "id") == server["id"], _WARM_LIMIT_S)
        say(f"the instance answers {time.monotonic() - started:.1f} s after the lab is up")


def has_said(text: str) -> Callable[[Lab], bool]:
    """Whether the lab's supervisor has come that far."""
    return lambda lab: any(
        f"{line['unit']} {line['event']}" == text for line in lifecycle.read_progress(lab.state / "progress")
    )


MOMENTS: dict[str, Callable[[Lab], bool]] = {
    "with its lock": lambda lab: is_locked(lab.directory / "lock"),
    "with a process": lambda lab: bool(host.processes(lab)),
    "with namespaces": lambda lab: host.process_one(lab) is not None,
    "with an interface": lambda lab: host.has_link(lab.name),
    "with a database": has_said("mariadb ready"),
    "with Keystone": has_said("keystone ready"),
}


def is_locked(path: Path) -> bool:
    """Whether a command has the lock."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_up_that_was_killed_is_cleared_away_or_taken_on(before: set[str], lab: Lab, moment: str) -> None:
    (lab.state / "progress").unlink(missing_ok=True)
    process = start_up()
    end = time.monotonic() + _WARM_LIMIT_S
    while not MOMENTS[moment](lab) and time.monotonic() < end:
        time.sleep(0.002)
    assert MOMENTS[moment](lab)
    kill_up(process)
    if moment == "with Keystone":
        lifecycle.up(lab, say)
        assert Tenant(lab, "lab").api.find("network", "networks", "public")
    # Else it is for `down` (the fixture's) to clear away what has just begun.


def test_ctrl_c_while_it_starts_ends_it(before: set[str], lab: Lab) -> None:
    process = start_up()
    wait_for("the first process", lambda: host.process_one(lab) is not None, 60)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not host.processes(lab)
    assert not host.has_link(lab.name)


def test_a_lab_whose_processes_were_killed_is_brought_up_again(before: set[str], lab: Lab) -> None:
    lifecycle.up(lab, say)
    first = host.process_one(lab)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for("the end of all", lambda: not host.processes(lab), 60)
    assert "down" in run_lab("status", check=False)
    # A stale rule and a stale interface, as a host's crash between two steps could leave them.
    subprocess.run(
        ["ip", "link", "add", lab.name, "type", "veth", "peer", "name", f"{lab.name}x"], check=False
    )
    lifecycle.up(lab, say)
    assert Tenant(lab, "lab").api.find("network", "networks", "public")


def test_a_service_that_dies_is_started_again(lab: Lab, admin: Api) -> None:
    lifecycle.up(lab, say)
    (pid,) = run_lab("exec", "pgrep", "-f", "^/usr/bin/uwsgi.*keystone").split()
    run_lab("exec", "kill", "-KILL", pid)
    wait_for("Keystone", lambda: bool(Tenant(lab, "lab").api.get("identity", "/auth/catalog")), 90)
    assert "keystone" in run_lab("status")


def test_a_range_in_use_is_refused_with_what_to_do(before: set[str], lab: Lab) -> None:
    process = subprocess.run(
        [str(COMMAND), "up"],
        env={**os.environ, NETWORK: "172.30.0.0/24"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "where stacks on Docker have their networks" in process.stderr + process.stdout
    assert NETWORK in process.stderr
    assert "Traceback" not in process.stderr
