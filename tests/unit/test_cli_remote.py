"""Commands for a stack that runs elsewhere: by its scalers' API over HTTPS, and by nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.cli import operate, remote
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.remote import find_remote, parse_address
from sipmediadeploy.cli.view import as_data, problems
from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.protocol.seen import Seen, StackNow
from sipmediadeploy.providers.base import FloatingIp
from sipmediadeploy.stack import Role, load_stack
from tests.harness.ports import free_port
from tests.unit.scaler.fake_scaler import SUBNET, FakeScaler, leading, record
from tests.unit.scaler.serving import HERE, MASTER, TOKEN, serving
from tests.unit.test_cli import assert_user_error, smd

STACK = "name: demo\ndomain: sip.test\nprovider: openstack\n"


@pytest.fixture
def leader() -> FakeScaler:
    return leading()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A stack on OpenStack; no cloud is in reach."""
    for name in ("OS_CLOUD", "OS_AUTH_URL", "SMD_API"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SMD_MASTER_SECRET", MASTER)
    (tmp_path / "stack.yaml").write_text(STACK)
    return Place(tmp_path / "stack.yaml")


async def run(place: Place, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``smd words`` as the user has it, while the API is served here."""
    directory = place.stack_file.parent
    return await asyncio.to_thread(smd, directory, *words, SMD_MASTER_SECRET=MASTER, **more)


async def test_status_commands_and_events_need_the_secrets_file_and_the_api_only(
    leader: FakeScaler, place: Place, tmp_path: Path
) -> None:
    async with serving(leader, tmp_path) as where:
        api = f"{HERE}:{where.port}"
        shown = await run(place, "status", "--json", "--api", api)
        assert shown.returncode == 1, "none of these replicas answers"
        data = json.loads(shown.stdout)
        assert [one["name"] for one in data["replicas"]] == [one.name for one in leader.records]
        assert "kamailio: 0 of 2 replicas are ready" in data["problems"]
        paused = await run(place, "pause", SMD_API=api)
        assert (paused.returncode, leader.lease.paused) == (0, [True]), paused.stderr
        assert "watch only" in paused.stdout
        assert "pause asked" in (await run(place, "events", "--api", api)).stdout
        assert_user_error(
            await run(place, "drain", "gateway-7", "--api", api), "no replica is named gateway-7"
        )


async def test_a_scaler_of_another_secrets_file_is_named_and_not_told_the_token(
    leader: FakeScaler, place: Place, tmp_path: Path
) -> None:
    async with serving(leader, tmp_path) as where:
        result = await asyncio.to_thread(
            smd, tmp_path, "pause", "--api", f"{HERE}:{where.port}", SMD_MASTER_SECRET="n" * 43
        )
    assert_user_error(result, "stack demo", "another secrets file")
    assert leader.lease.paused == []


def test_where_nobody_answers_the_way_through_ssh_is_shown(place: Place) -> None:
    result = smd(
        place.stack_file.parent, "status", "--api", f"{HERE}:{free_port()}", SMD_MASTER_SECRET=MASTER
    )
    assert_user_error(result, "openstack.api_from", "ssh -N -L 8843:127.0.0.1:8843", "--api 127.0.0.1")
    assert TOKEN not in result.stderr


def test_without_an_address_the_floating_ip_is_asked_for_and_the_cloud_is_named(place: Place) -> None:
    result = smd(place.stack_file.parent, "status", SMD_MASTER_SECRET=MASTER, HOME="/nowhere")
    assert_user_error(result, "credentials", "openstack.cloud")


def test_a_stack_on_this_machine_has_no_api_elsewhere(tmp_path: Path) -> None:
    smd(tmp_path, "init")
    assert_user_error(smd(tmp_path, "status", "--api", "192.0.2.7"), "leave --api and SMD_API out")


class OneFloatingIp:
    """A provider that has nothing else."""

    api_floating_ip = True

    def __init__(self, *ips: FloatingIp) -> None:
        self._ips = list(ips)
        self.closed = 0

    async def floating_ips(self) -> list[FloatingIp]:
        return self._ips

    def close(self) -> None:
        self.closed += 1


def test_the_api_is_at_the_floating_ip_of_the_scalers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ips = [FloatingIp(role, IPv4Address(f"198.51.100.{n}"), "x") for n, role in enumerate(Role)]
    provider = OneFloatingIp(*ips)
    monkeypatch.setattr(remote, "load_provider", lambda *_: provider)
    found = find_remote(place, load_stack(place.stack_file), None)
    assert (found.host, found.port) == (f"198.51.100.{list(Role).index(Role.SCALER)}", 8843)
    assert MASTER not in repr(found)
    assert provider.closed == 1, "a cloud serves a limited number of connections"
    monkeypatch.setattr(remote, "load_provider", lambda *_: OneFloatingIp())
    with pytest.raises(CommandError, match=r"no floating IP \(no scaler has led yet\).*--api"):
        find_remote(place, load_stack(place.stack_file), None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("198.51.100.7", ("198.51.100.7", 8843)),
        ("localhost:18843", ("localhost", 18843)),
        ("[2001:db8::7]:9", ("[2001:db8::7]", 9)),
        ("[2001:db8::7]", ("[2001:db8::7]", 8843)),
        ("https://198.51.100.7", None),
        ("198.51.100.7:0", None),
        ("198.51.100.7:70000", None),
        ("2001:db8::7", None),
        ("", None),
    ],
)
def test_an_address_of_the_api_is_checked(text: str, expected: tuple[str, int] | None) -> None:
    if expected is not None:
        assert parse_address(text) == expected
        return
    with pytest.raises(CommandError, match="expected ADDRESS or ADDRESS:PORT"):
        parse_address(text)


class Failing:
    """A stack whose API is away for a moment, as when another scaler takes the lead."""

    def __init__(self, place: Place, *looks: StackNow | CommandError) -> None:
        self.stack = load_stack(place.stack_file)
        self._looks = list(looks)

    async def look(self) -> StackNow:
        if not self._looks:
            raise KeyboardInterrupt
        now = self._looks.pop(0)
        if isinstance(now, CommandError):
            raise now
        return now

    async def ask(self, ask: Any) -> Any:
        return [], []


def test_watch_goes_on_while_another_scaler_takes_the_lead(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = StackNow(subnet=SUBNET, replicas=(Seen(record(Role.SCALER, 1), None, "silent"),))
    away = CommandError("nobody answers")

    def watch(*looks: StackNow | CommandError) -> str:
        @contextlib.contextmanager
        def reached(*_: object) -> Iterator[Failing]:
            yield Failing(place, *looks)

        monkeypatch.setattr(operate, "reached", reached)
        with pytest.raises((KeyboardInterrupt, CommandError)) as ended:
            operate.watch(place)
        return f"{capsys.readouterr().out}{ended.value}"

    monkeypatch.setattr(operate, "_WATCH_S", 0.0)
    shown = watch(now, away, now)
    assert shown.count("demo-scaler-1") >= 3
    assert shown.count("! nobody answers") == 1
    assert watch(away, now) == "nobody answers", "who can't be reached at all is an error"


@pytest.mark.parametrize(("age_s", "said"), [(None, "since it was started"), (40.0, "for 40 s"), (3.0, "")])
def test_what_a_blind_scaler_tells_is_not_taken_for_the_present(
    place: Place, age_s: float | None, said: str
) -> None:
    stack = load_stack(place.stack_file)
    found = problems(stack, StackNow(subnet=SUBNET, replicas=(), inventory_age_s=age_s))
    assert any("could not read the list of replicas" in problem for problem in found) == bool(said)
    assert not said or said in found[0]


def test_where_floating_ips_move_their_replica_is_the_one_that_is_called(place: Place) -> None:
    """With openstack.service_addresses: reassociate no replica says that it holds an address."""
    holder = record(Role.KAMAILIO, 1)
    status = Status(
        name=holder.name,
        role=Role.KAMAILIO,
        state=State.READY,
        reason="",
        version="v",
        config_hash="h",
        uptime_s=1,
    )
    ip = FloatingIp(Role.KAMAILIO, IPv4Address("198.51.100.7"), holder.id)
    now = StackNow(subnet=SUBNET, replicas=(Seen(holder, status),), floating_ips=(ip,))
    data = as_data(load_stack(place.stack_file), now)
    assert data["service_addresses"]["kamailio"]["held_by"] == [holder.name]
    assert data["sip"] == "sip:demo@198.51.100.7"
    assert not any("kamailio is held by" in problem for problem in data["problems"])
