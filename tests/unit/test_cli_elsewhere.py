"""``smd logs`` and ``smd call`` for a stack that runs elsewhere."""

from __future__ import annotations

import asyncio
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from sipmediadeploy.cli import call as call_module
from sipmediadeploy.cli import remote
from sipmediadeploy.cli.call import Call, call
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.logs import other_ways, ssh_command
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.view import as_data
from sipmediadeploy.protocol.seen import Seen, StackNow
from sipmediadeploy.providers.base import FloatingIp, ProviderError
from sipmediadeploy.stack import Role, Stack, parse_stack
from tests.unit.scaler.fake_scaler import SUBNET, FakeScaler, leading, record
from tests.unit.scaler.serving import HERE, MASTER, TOKEN, serving
from tests.unit.test_cli import assert_user_error, smd

STACK = "name: demo\ndomain: sip.test\nprovider: openstack\n"
SSH = STACK + "openstack: {cloud: ours, key_pair: ann, ssh_from: [192.0.2.0/24]}\n"
FLOATING_IP = IPv4Address("198.51.100.9")


@pytest.fixture
def leader() -> FakeScaler:
    return leading()


def place_of(tmp_path: Path, text: str) -> Place:
    (tmp_path / "stack.yaml").write_text(text)
    return Place(tmp_path / "stack.yaml")


async def run(tmp_path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``smd words`` as the user has it, while the API is served here."""
    return await asyncio.to_thread(smd, tmp_path, *words, SMD_MASTER_SECRET=MASTER, **more)


def now(leads: str = "demo-scaler-0") -> StackNow:
    """Two scalers and a gateway; the scalers' floating IP is mapped to the one that ``leads``."""
    records = [record(Role.SCALER, 0, "10.86.0.48"), record(Role.SCALER, 1, "10.86.0.49")]
    records.append(record(Role.GATEWAY, 0, "10.86.0.64"))
    ip = FloatingIp(Role.SCALER, FLOATING_IP, f"id-{leads}")
    return StackNow(subnet=SUBNET, replicas=tuple(Seen(r, None) for r in records), floating_ips=(ip,))


async def test_logs_come_through_the_scalers_api_and_need_no_ssh(leader: FakeScaler, tmp_path: Path) -> None:
    place_of(tmp_path, STACK)
    async with serving(leader, tmp_path) as where:
        api = f"{HERE}:{where.port}"
        for name in ("kamailio-1", "demo-kamailio-1"):
            shown = await run(tmp_path, "logs", name, "-n", "7", "--api", api)
            assert (shown.returncode, shown.stdout) == (0, "agent: demo-kamailio-1 is well, 7\n"), (
                shown.stderr
            )
        wrong = await run(tmp_path, "logs", "kamailio-9", SMD_API=api)
    assert_user_error(wrong, "no replica is named kamailio-9", "demo-kamailio-1")


async def test_a_replica_whose_agent_is_silent_has_its_other_ways_named(
    leader: FakeScaler, tmp_path: Path
) -> None:
    place_of(tmp_path, STACK)
    async with serving(leader, tmp_path) as where:
        result = await run(tmp_path, "logs", "gateway-0", "--api", f"{HERE}:{where.port}")
        assert_user_error(
            result,
            "the agent of demo-gateway-0 gives no logs: GET logs: no answer",
            "openstack console log show demo-gateway-0",
            "openstack.key_pair",
            "openstack.ssh_from",
        )
        assert TOKEN not in result.stderr
        place_of(tmp_path, SSH)
        result = await run(tmp_path, "logs", "gateway-0", "-n", "9", "--api", f"{HERE}:{where.port}")
    assert_user_error(
        result,
        "openstack --os-cloud ours console log show demo-gateway-0",
        """ssh debian@127.0.0.9 'sudo journalctl -u '"'"'smd-*'"'"' -n 9'""",
    )


async def test_following_goes_over_ssh_in_this_terminal(leader: FakeScaler, tmp_path: Path) -> None:
    place_of(tmp_path, SSH)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    ssh.chmod(0o755)
    async with serving(leader, tmp_path) as where:
        api = f"{HERE}:{where.port}"
        shown = await run(tmp_path, "logs", "gateway-0", "-f", "--api", api, PATH=str(ssh.parent))
        assert shown.returncode == 3, "the exit code is that of ssh"
        assert shown.stdout == "debian@127.0.0.9\nsudo journalctl -u 'smd-*' -n 100 -f\n"
        assert shown.stderr.startswith("smd: ssh debian@127.0.0.9")
        none = await run(tmp_path, "logs", "gateway-0", "-f", "--api", api, PATH=str(tmp_path))
    assert_user_error_with_command(none, "openssh-client")
    place_of(tmp_path, STACK)
    assert_user_error(await run(tmp_path, "logs", "gateway-0", "-f"), "goes over SSH", "openstack.ssh_from")


def assert_user_error_with_command(result: subprocess.CompletedProcess[str], word: str) -> None:
    assert result.returncode == 2, result
    assert word in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("replica", "leads", "way"),
    [
        ("gateway-0", "demo-scaler-0", ["-J", "debian@198.51.100.9", "debian@10.86.0.64"]),
        ("demo-scaler-1", "demo-scaler-0", ["-J", "debian@198.51.100.9", "debian@10.86.0.49"]),
        ("demo-scaler-1", "demo-scaler-1", ["debian@198.51.100.9"]),
    ],
)
def test_ssh_goes_through_the_scaler_that_has_the_floating_ip(
    replica: str, leads: str, way: list[str]
) -> None:
    found = ssh_command(parse_stack(SSH), now(leads), replica, 50, follow=False)
    assert found == ["ssh", *way, "sudo journalctl -u 'smd-*' -n 50"]


def test_with_no_scaler_in_reach_it_is_said_where_addresses_are_found() -> None:
    said = other_ways(parse_stack(SSH), None, "scaler-0", 100)
    assert "openstack --os-cloud ours console log show demo-scaler-0" in said
    assert "openstack --os-cloud ours server list --tags smd.stack=demo" in said


def test_without_an_engine_here_smd_call_says_what_can_be_called_by_any_terminal(tmp_path: Path) -> None:
    place_of(tmp_path, STACK)
    result = smd(tmp_path, "call", "demo", "--to", "198.51.100.9:5070")
    assert_user_error(result, "in a container on this machine", "sip:demo@198.51.100.9:5070")


def test_a_stack_on_this_machine_is_called_without_an_api(tmp_path: Path) -> None:
    smd(tmp_path, "init")
    for words in (("call", "demo"), ("logs", "gateway-0")):
        assert_user_error(smd(tmp_path, *words, "--api", "192.0.2.7"), "leave --api and SMD_API out")


class Engine:
    """What a call needs of the engine; ``asked`` are the containers that it was asked for."""

    def __init__(self, *, has_image: bool = True) -> None:
        self.has_image, self.api, self.images = has_image, self, self
        self.asked: list[dict[str, Any]] = []
        self.removed = 0

    def get(self, name: str) -> object:
        if not self.has_image:
            raise ImageNotFound(name)
        return object()

    def create_host_config(self, **given: Any) -> dict[str, Any]:
        return given

    def create_container(self, image: str, **given: Any) -> dict[str, str]:
        self.asked.append({"image": image, **given})
        return {"Id": str(len(self.asked))}

    def remove_container(self, *_: object, **__: object) -> None:
        self.removed += 1

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None

    def attach(self, *_: object, **__: object) -> list[tuple[bytes, bytes]]:
        return []

    def wait(self, _container: str) -> dict[str, int]:
        return {"StatusCode": 1}


class Cloud:
    """A provider that has floating IPs and nothing else."""

    def __init__(self, *ips: FloatingIp) -> None:
        self._ips = list(ips)

    async def floating_ips(self) -> list[FloatingIp]:
        return self._ips

    def close(self) -> None:
        """It has no connections."""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A stack on a cloud that has a floating IP for kamailio."""
    monkeypatch.setenv("SMD_MASTER_SECRET", MASTER)
    ip = FloatingIp(Role.KAMAILIO, FLOATING_IP, "x")
    monkeypatch.setattr(remote, "load_provider", lambda *_: Cloud(ip))
    return place_of(tmp_path, STACK + "sip: {port: 5070}\n")


def test_a_stack_elsewhere_is_called_at_its_floating_ip_from_this_machines_network(
    elsewhere: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    monkeypatch.setattr(call_module, "connect", lambda *_: engine)
    assert call(elsewhere, Call("demo", 5.0)) == 1, "the exit code is that of the test client"
    assert len(engine.asked) == engine.removed == 2, "the second one is the companion"
    for asked in engine.asked:
        assert asked["image"].startswith("smd/gateway:")
        assert asked["host_config"]["network_mode"] == "host"
        assert asked["host_config"]["cap_drop"] == ["ALL"]
        assert asked["networking_config"] is None
        assert asked["command"][:3] == ["demo", "--to", f"{FLOATING_IP}:5070"]
    assert len({asked["name"] for asked in engine.asked}) == 2


def test_what_a_call_from_here_lacks_is_named(elsewhere: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "connect", lambda *_: Engine(has_image=False))
    with pytest.raises(CommandError, match="is not on this machine: smd images build"):
        call(elsewhere, Call("demo", 5.0))

    def refuse(*_: object) -> Engine:
        raise ProviderError("the Docker Engine does not answer")

    monkeypatch.setattr(call_module, "connect", refuse)
    with pytest.raises(
        CommandError, match=f"does not answer. Any SIP terminal .*sip:demo@{FLOATING_IP}:5070"
    ):
        call(elsewhere, Call("demo", 5.0))
    monkeypatch.setattr(remote, "load_provider", lambda *_: Cloud())
    with pytest.raises(CommandError, match=r"kamailio has no floating IP.*--to ADDRESS"):
        call(elsewhere, Call("demo", 5.0))


@pytest.mark.parametrize(
    ("text", "page"), [(STACK, None), ("name: demo\ndomain: sip.test\n", "https://172.30.9.9/demo")]
)
def test_a_page_that_no_browser_can_reach_is_not_shown(text: str, page: str | None) -> None:
    stack: Stack = parse_stack(text)
    assert as_data(stack, now())["page"] == page
