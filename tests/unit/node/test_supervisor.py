"""What s6 keeps of a service."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sipmediadeploy.node.supervisor import S6, ServiceStatus, SupervisorError, read_status

STAMP = struct.pack(">QI", 2**62 + 10 + 1_790_000_000, 5)


def status(pid: int, *, newer: bool = False) -> bytes:
    group = struct.pack(">Q", pid) if newer else b""
    return STAMP + STAMP + struct.pack(">Q", pid) + group + b"\0\0" + b"\x04"


@pytest.mark.parametrize("newer", [False, True])
def test_a_service_that_runs_has_a_pid(newer: bool) -> None:
    assert read_status(status(612, newer=newer)) == ServiceStatus(up=True, pid=612)


def test_a_service_that_is_down_has_none() -> None:
    assert read_status(status(0)) == ServiceStatus(up=False, pid=None)


def test_anything_else_is_an_error_that_says_so() -> None:
    with pytest.raises(SupervisorError, match="18 bytes"):
        read_status(bytes(18))


async def test_a_service_whose_supervisor_has_not_begun_is_down(tmp_path: Path) -> None:
    (tmp_path / "kamailio").mkdir()
    (tmp_path / "kamailio" / "run").touch()
    assert await S6(tmp_path).status("kamailio") == ServiceStatus(up=False, pid=None)


async def test_a_status_that_can_not_be_read_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "kamailio" / "supervise" / "status").mkdir(parents=True)
    (tmp_path / "kamailio" / "run").touch()
    with pytest.raises(SupervisorError, match=r"'kamailio' can't be read: .*supervise/status"):
        await S6(tmp_path).status("kamailio")
