"""What the agent asks of systemd, and what it makes of the answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sipmediadeploy.node.supervisor import S6, ServiceStatus, SupervisorError
from sipmediadeploy.node.systemd import Systemd, properties, read_status, supervisor_here

SHOWN = """\
MainPID=612
LoadState=loaded
ActiveState=active
"""


def status(**changed: str) -> ServiceStatus:
    return read_status("kamailio", properties(SHOWN) | changed)


def test_a_running_service_has_a_pid() -> None:
    assert status() == ServiceStatus(up=True, pid=612)


@pytest.mark.parametrize("state", ["inactive", "failed", "activating", "deactivating"])
def test_a_service_whose_process_is_gone_or_ends_is_not_up(state: str) -> None:
    # Between two starts a unit is "activating (auto-restart)".
    assert status(ActiveState=state, MainPID="0") == ServiceStatus(up=False, pid=None)


def test_a_service_that_reloads_is_up() -> None:
    assert status(ActiveState="reloading").up


@pytest.mark.parametrize("load", ["not-found", "masked", "bad-setting", ""])
def test_a_unit_that_systemd_can_not_run_is_an_error_that_says_so(load: str) -> None:
    with pytest.raises(SupervisorError, match=rf"service 'kamailio'.*{load or 'unknown'}"):
        status(LoadState=load)


def test_servers_have_systemd_and_containers_s6(tmp_path: Path) -> None:
    assert isinstance(supervisor_here(tmp_path), Systemd)
    assert isinstance(supervisor_here(tmp_path / "missing"), S6)


class Machine:
    """Units in a directory, and a systemctl that writes down what it is told."""

    def __init__(self, root: Path) -> None:
        self.units = root / "units"
        self.units.mkdir()
        (self.units / "smd-kamailio.service").touch()
        self._told = root / "told"
        self.systemctl = root / "systemctl"
        self.answer(f"cat <<END\n{SHOWN}END\n")
        self.systemd = Systemd(self.units, str(self.systemctl))

    def answer(self, script: str) -> None:
        self.systemctl.write_text(f'#!/bin/sh\necho "$@" >>{self._told}\n{script}')
        self.systemctl.chmod(0o755)

    @property
    def told(self) -> list[str]:
        return self._told.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def test_orders_name_the_unit_and_wait_for_nothing(machine: Machine) -> None:
    await machine.systemd.start("kamailio")
    await machine.systemd.restart("kamailio")
    await machine.systemd.kill("kamailio")
    assert machine.told == [
        "start --no-block smd-kamailio.service",
        "restart --no-block smd-kamailio.service",
        "kill --kill-who=all --signal=SIGKILL smd-kamailio.service",
    ]


async def test_the_status_is_read_from_one_command(machine: Machine) -> None:
    assert await machine.systemd.status("kamailio") == ServiceStatus(True, 612)
    assert machine.told == ["show --property=LoadState,ActiveState,MainPID smd-kamailio.service"]


async def test_systemd_is_asked_again_only_when_the_process_has_ended(machine: Machine) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:  # noqa: ASYNC220
        machine.answer(f"cat <<END\n{SHOWN.replace('612', str(process.pid))}END\n")
        for _ in range(3):
            assert await machine.systemd.status("kamailio") == ServiceStatus(True, process.pid)
        assert len(machine.told) == 1
        process.kill()
        process.wait()
        await machine.systemd.status("kamailio")
        assert len(machine.told) == 2


async def test_a_service_without_a_unit_is_an_error_and_systemd_is_not_asked(machine: Machine) -> None:
    with pytest.raises(SupervisorError, match=r"no service 'coturn'.*smd-coturn\.service is missing"):
        await machine.systemd.start("coturn")
    assert not (machine.units.parent / "told").exists()


async def test_what_systemd_refuses_is_told(machine: Machine) -> None:
    machine.answer("echo 'Access denied' >&2; exit 4\n")
    with pytest.raises(SupervisorError, match=r"start --no-block smd-kamailio\.service: Access denied"):
        await machine.systemd.start("kamailio")


def test_logs_are_those_of_the_replicas_units_with_their_names(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.units / "smd-agent.service").touch()
    (machine.units / "smd-agent.path").touch()
    (machine.units / "ssh.service").touch()
    tool = tmp_path / "bin" / "journalctl"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nfor last; do :; done\necho "a line of $last"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    assert machine.systemd.logs(1) == [
        "agent: a line of --unit=smd-agent.service",
        "kamailio: a line of --unit=smd-kamailio.service",
    ]
    assert machine.systemd.logs(0) == []
