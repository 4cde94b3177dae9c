"""The lab's programs start in an order in which none waits for ever, and end up running."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tests.lab.openstack.inside.supervisor import Supervisor
from tests.lab.openstack.inside.units import Ready, Unit, is_ordered, units
from tests.unit.lab.test_openstack_config import CLOUD


def test_each_unit_stands_after_those_that_it_waits_for() -> None:
    assert is_ordered(units(CLOUD))


@pytest.mark.parametrize(
    "some",
    [
        [Unit("a", ("x",), after=("b",)), Unit("b", ("x",))],
        [Unit("a", ("x",), after=("a",))],
        [Unit("a", ("x",)), Unit("a", ("x",))],
        [Unit("a", ("x",), after=("unknown",))],
    ],
    ids=["later", "itself", "twice", "unknown"],
)
def test_an_order_in_which_one_waits_for_ever_is_noticed(some: list[Unit]) -> None:
    assert not is_ordered(some)


def test_no_secret_is_on_a_command_line_or_in_an_environment() -> None:
    text = "\n".join(" ".join([*unit.command, *unit.environment.values()]) for unit in units(CLOUD))
    assert not [name for name, secret in CLOUD.secrets.items() if secret in text]


def shell(name: str, script: str, **more: object) -> Unit:
    return Unit(name, ("/bin/sh", "-c", script), **more)  # type: ignore[arg-type]


def supervise(some: list[Unit], directory: Path, until: str) -> list[dict[str, object]]:
    """Run a supervisor until it says ``until``; all that it said."""
    for name in ("log", "done"):
        (directory / name).mkdir(exist_ok=True)
    progress = directory / "progress"

    def run() -> None:
        Supervisor(some, directory / "log", directory / "done", progress).run()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    assert process.pid is not None
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end and f'"{until}"' not in (
            progress.read_text() if progress.exists() else ""
        ):
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.join(10)
    lines: list[dict[str, object]] = [json.loads(line) for line in progress.read_text().splitlines()]
    assert any(line["event"] == until for line in lines), lines
    return lines


def test_tasks_and_services_start_when_what_they_wait_for_is_ready(tmp_path: Path) -> None:
    lines = supervise(
        [
            shell("task", "sleep 0.2"),
            shell(
                "service",
                "sleep 0.2; echo listening; exec sleep 60",
                after=("task",),
                ready=Ready(line="listening"),
            ),
            shell("last", "true", after=("service",)),
        ],
        tmp_path,
        "up",
    )
    said = [(line["event"], line["unit"]) for line in lines]
    wanted = [("done", "task"), ("started", "service"), ("ready", "service"), ("started", "last"), ("up", "")]
    assert [one for one in said if one in wanted] == wanted


def test_what_is_done_once_is_not_done_again(tmp_path: Path) -> None:
    some = [shell("once", f"echo done >>{tmp_path}/count", once=True)]
    supervise(some, tmp_path, "up")
    (tmp_path / "progress").unlink()
    supervise(some, tmp_path, "up")
    assert (tmp_path / "count").read_text() == "done\n"


def test_a_service_that_ends_is_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    script = f"echo >>{starts}; [ $(wc -l <{starts}) -gt 1 ] || exit 3; echo ready; exec sleep 60"
    lines = supervise([shell("service", script, ready=Ready(line="ready"))], tmp_path, "up")
    assert [line["code"] for line in lines if line["event"] == "ended"][:1] == [3]


def test_a_task_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    lines = supervise(
        [shell("task", f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; exit 5; }}")], tmp_path, "up"
    )
    assert [line["code"] for line in lines if line["event"] == "ended"] == [5]


def test_a_task_that_fails_is_told_and_what_waits_for_it_is_not_started(tmp_path: Path) -> None:
    some = [shell("task", "echo the reason >&2; exit 4"), shell("next", "true", after=("task",))]
    lines = supervise(some, tmp_path, "failed")
    assert [line["code"] for line in lines if line["event"] == "failed"] == [4]
    assert not [line for line in lines if line["unit"] == "next"]
    assert "the reason" in (tmp_path / "log/task.log").read_text()


def test_no_service_outlives_its_supervisor(tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; echo ready; exec sleep 60"
    supervise([shell("service", script, ready=Ready(line="ready"))], tmp_path, "up")
    command_line = Path("/proc", (tmp_path / "pid").read_text().strip(), "cmdline")
    end = time.monotonic() + 5
    while time.monotonic() < end and command_line.exists() and command_line.read_bytes():
        time.sleep(0.02)
    assert not command_line.exists() or not command_line.read_bytes()  # a zombie has none
