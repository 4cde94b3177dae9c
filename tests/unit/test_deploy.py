"""``smd deploy``: what it decides and says, and how it runs other programs."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.cli import programs
from sipmediadeploy.cli.deploy import examined
from sipmediadeploy.cli.deploy_foundation import told_variables
from sipmediadeploy.cli.deploy_plan import ApplyProgress, Ground, Way, choose_way, read_plan
from sipmediadeploy.cli.deploy_progress import farewell, not_whole, shown_by_cloud, told_by_scalers
from sipmediadeploy.cli.doctor import as_data
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.protocol.seen import Seen, StackNow
from sipmediadeploy.providers.base import FloatingIp, Life
from sipmediadeploy.providers.findings import Finding, ok, problem, unknown, warning
from sipmediadeploy.stack import Role, Stack, parse_stack
from tests.harness.waiting import until
from tests.unit.scaler.fake_scaler import SUBNET, record
from tests.unit.test_cli import assert_user_error, smd

STACK = parse_stack(
    "name: demo\ndomain: a.customer.net\nprovider: openstack\nconference: {url: 'wss://c.test'}\n"
)
ALL = ("kamailio: 0 of 2", "coturn: 0 of 2", "gateway: 0 of 1", "scaler: 0 of 2")
PUBLIC = FloatingIp(Role.KAMAILIO, IPv4Address("203.0.113.7"), "the service address")


def ground(**given: Any) -> Ground:
    usual: dict[str, Any] = {"directory": Path("/d"), "program": "tofu", "in_state": False, "in_cloud": False}
    return Ground(**{**usual, **given})


@pytest.mark.parametrize(
    ("asked", "given", "way"),
    [
        (None, {}, Way.TERRAFORM),
        (None, {"program": None}, Way.SMD),
        (None, {"in_state": True, "in_cloud": True}, Way.TERRAFORM),
        (None, {"in_cloud": True}, Way.SMD),
        (Way.SMD, {}, Way.SMD),
        (Way.TERRAFORM, {}, Way.TERRAFORM),
        (Way.SMD, {"in_cloud": True, "program": None}, Way.SMD),
    ],
)
def test_terraform_makes_the_foundation_where_it_is_and_nobody_else_has(
    asked: Way | None, given: dict[str, Any], way: Way
) -> None:
    chosen, why = choose_way(asked, ground(**given), "demo")
    assert chosen is way
    assert why


@pytest.mark.parametrize(
    ("asked", "given", "words"),
    [
        (Way.TERRAFORM, {"program": None}, "neither terraform nor tofu"),
        (None, {"program": None, "in_state": True}, "install it"),
        (Way.TERRAFORM, {"in_cloud": True}, "not in Terraform's state in /d"),
        (Way.SMD, {"in_state": True}, "terraform destroy"),
    ],
)
def test_nothing_is_made_twice_by_two_that_know_nothing_of_each_other(
    asked: Way | None, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        choose_way(asked, ground(**given), "demo")


def change(kind: str, actions: list[str], name: str = "x", **values: Any) -> dict[str, Any]:
    before, after = {"name": "a"}, {"name": values.get("renamed", "a")}
    return {
        "address": f"module.stack.{kind}.{name}",
        "type": kind,
        "name": name,
        "change": {"actions": actions, "before": before, "after": after},
    }


def test_a_plan_is_summed_up_and_says_whether_it_makes_the_first_scaler() -> None:
    plan = {
        "resource_changes": [
            change("openstack_networking_network_v2", ["create"]),
            change("openstack_networking_secgroup_rule_v2", ["delete"]),
            change("openstack_networking_subnet_v2", ["update"]),
            change("openstack_networking_port_v2", ["no-op"]),
            change("openstack_networking_network_v2", ["read"]),
            change("terraform_data", ["create"], "bootstrap"),
        ]
    }
    changes = read_plan(plan)
    assert (str(changes), changes.number) == ("2 to add, 1 to change, 1 to destroy", 4)
    assert (changes.bootstraps, changes.lost) == (True, ())
    assert read_plan({}).number == 0
    assert not read_plan({"resource_changes": [change("terraform_data", ["no-op"], "bootstrap")]}).bootstraps


@pytest.mark.parametrize(
    "lost",
    [
        change("openstack_networking_network_v2", ["delete", "create"]),
        change("openstack_networking_floatingip_v2", ["delete"]),
        change("openstack_networking_router_v2", ["update"], renamed="smd-other"),
    ],
)
def test_what_would_cut_a_running_stack_off_is_named(lost: dict[str, Any]) -> None:
    assert read_plan({"resource_changes": [lost]}).lost == (lost["address"],)


def test_an_apply_is_told_in_few_lines_and_the_first_scaler_in_its_own_words() -> None:
    progress = ApplyProgress(11)
    lines = ["x: Creating..."] + [f"x[{n}]: Creation complete after 2s [id=1]" for n in range(10)]
    lines += [
        'b (local-exec): Executing: ["/bin/sh"]',
        "b (local-exec): [  1.0 s] demo-scaler-0: starting it",
    ]
    lines += ["x: Modifications complete after 0s [id=1]"]
    assert [said for line in lines if (said := progress.said(line))] == [
        "Terraform: 10 of 11 done",
        "demo-scaler-0: starting it",
        "Terraform: 11 of 11 done",
    ]


def test_the_example_is_told_only_what_its_defaults_do_not_say(tmp_path: Path) -> None:
    example = tmp_path / "deploy/terraform/example"
    example.mkdir(parents=True)
    assert told_variables(example, tmp_path / "stack.yaml", tmp_path / "smd") == {}
    told = told_variables(example, Path("/mine/stack.yaml"), tmp_path / "smd")
    assert told == {"TF_VAR_stack_file": "/mine/stack.yaml"}


def test_only_what_no_later_step_mends_stops_a_deployment() -> None:
    found = [ok("Nova", "answers"), problem("image of coturn", "missing", "build it", by_deploy=True)]
    assert examined("demo", found) == ["nothing is in the way"]
    found += [warning("DNS", "made up", "set domain"), unknown("clock", "not told")]
    assert [said.split()[0] for said in examined("demo", found)] == ["warning", "unknown"]
    with pytest.raises(CommandError, match=r"(?s)stack demo.*quota of cores.*→ ask for more") as raised:
        examined("demo", [*found, problem("quota of cores", "3 too few", "ask for more")])
    assert "DNS" not in str(raised.value)


def seen(role: Role, slot: int, *, active: bool | None = None) -> Seen:
    one = record(role, slot)
    status = Status(
        name=one.name,
        role=role,
        state=State.READY,
        reason="",
        active=active,
        capacity=4,
        calls=0,
        uptime_s=1.0,
        version="v",
        config_hash="h",
    )
    return Seen(one, status)


def whole(*, held: bool = True) -> list[Seen]:
    """Every replica; ``held``: one holds the service address of kamailio."""
    pairs = [(role, slot) for role in (Role.KAMAILIO, Role.COTURN, Role.SCALER) for slot in (0, 1)]
    now = [seen(role, slot, active=slot == 0 and (held or role is not Role.KAMAILIO)) for role, slot in pairs]
    return [*now, seen(Role.GATEWAY, 0)]


def test_progress_counts_the_pools_and_then_names_what_is_still_missing() -> None:
    now = StackNow(subnet=SUBNET, replicas=tuple(whole()[1:]), floating_ips=(PUBLIC,))
    line = "kamailio 1 of 2 ready, coturn 2 of 2, gateway 1 of 1, scaler 2 of 2"
    assert told_by_scalers(STACK, now).line == line
    now = StackNow(subnet=SUBNET, replicas=tuple(whole(held=False)), floating_ips=(PUBLIC,))
    progress = told_by_scalers(STACK, now)
    assert progress.line.endswith("; the service address of kamailio is held by nobody")
    assert progress.floating_ips == {Role.KAMAILIO: PUBLIC.address}


@pytest.mark.parametrize(
    ("sip", "version", "lacking"),
    [
        ("", "v", []),
        (None, "v", []),
        ("no answer", "v", ["SIP: no answer"]),
        ("", "v2", [f"{pool} servers run" for pool in ALL]),
    ],
)
def test_without_the_scalers_servers_of_the_version_and_sip_are_what_counts(
    sip: str | None, version: str, lacking: list[str]
) -> None:
    records = [one.record for one in whole()]
    assert list(shown_by_cloud(STACK, version, records, [PUBLIC], sip).lacking) == lacking


def test_a_server_that_does_not_run_does_not_count() -> None:
    records = [one.record for one in whole()]
    records[0] = dataclasses.replace(records[0], life=Life.STARTING)
    assert shown_by_cloud(STACK, "v", records, [], "").line.startswith(
        "kamailio 1 of 2 servers run, coturn 2 of 2"
    )


def test_who_waited_in_vain_is_told_what_is_missing_and_where_to_look() -> None:
    progress = shown_by_cloud(STACK, "v", [], [], "no answer")
    said = not_whole(STACK, progress, 900.0, "no scaler has led yet")
    for words in ("after 900 s", "gateway: 0 of 1", "no scaler has led yet", "smd.stack=demo", "smd doctor"):
        assert words in said
    assert "smd events" in not_whole(STACK, progress, 900.0, None)


@pytest.mark.parametrize(
    ("stack", "ips", "words"),
    [
        (STACK, {Role.KAMAILIO: PUBLIC.address}, ["sip:ROOM@203.0.113.7\n", "sip:ROOM@a.customer.net"]),
        (
            STACK.model_copy(update={"sip": STACK.sip.model_copy(update={"port": 5070})}),
            {Role.KAMAILIO: PUBLIC.address, Role.SCALER: IPv4Address("203.0.113.8")},
            ["sip:ROOM@203.0.113.7:5070", "https://203.0.113.8:8843", "./smd status"],
        ),
        (STACK, {}, ["no floating IP"]),
    ],
)
def test_the_last_words_are_what_to_call_and_how_to_remove_it(
    stack: Stack, ips: dict[Role, IPv4Address], words: list[str]
) -> None:
    said = "\n".join(farewell(stack, ips, None, "tofu destroy"))
    for word in [*words, "remove  tofu destroy"]:
        assert word in said


def test_a_stack_on_this_machine_is_brought_up_otherwise(tmp_path: Path) -> None:
    smd(tmp_path, "init")
    assert_user_error(smd(tmp_path, "deploy"), "smd deploy is for stacks on OpenStack", "smd up")


async def test_a_program_that_fails_is_told_with_its_last_lines(tmp_path: Path) -> None:
    log, words = tmp_path / "l" / "log", [sys.executable, "-c", "print('why'); raise SystemExit(3)"]
    with pytest.raises(CommandError, match=rf"(?s)exit code 3; the last lines of {log}:\n  why"):
        await programs.run(words, tmp_path, None, log)
    assert await programs.run(words, tmp_path, None, log, good=(3,)) == 3
    with pytest.raises(CommandError, match="can't be run: No such file"):
        await programs.run(["/nowhere/packer"], tmp_path, None, log)


PATIENT = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path("cleaned up").touch()
    sys.exit(1)
signal.signal(signal.SIGINT, end)
print("has begun", flush=True)
time.sleep(60)
"""


async def test_a_program_that_is_interrupted_is_waited_for_until_it_has_cleaned_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    task = asyncio.create_task(programs.run([sys.executable, "-c", PATIENT], tmp_path, None, log))
    await until("the program has begun", lambda: log.exists() and "has begun" in log.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "cleaned up").exists()


def test_a_finding_that_deploy_mends_is_so_for_other_programs_as_well() -> None:
    found: list[Finding] = [problem("image of coturn", "missing", "build it", by_deploy=True)]
    assert as_data("demo", found)["findings"] == [
        {
            "level": "problem",
            "what": "image of coturn",
            "found": "missing",
            "todo": "build it",
            "by_deploy": True,
        }
    ]
