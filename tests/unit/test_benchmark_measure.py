"""CPU time and memory are read from where the kernel keeps them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from benchmarks.measure import Cgroup, NoCgroup, Usage, busy_ones, parse_cgroup, usages
from benchmarks.rows import Delays, Row, delays_of, table, with_added

V1_MOUNTS = """\
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_cgroup_v1_has_a_place_for_each_controller() -> None:
    found = parse_cgroup("4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n", V1_MOUNTS)
    assert found == Cgroup(
        1, Path("/sys/fs/cgroup/cpu,cpuacct/docker/abc"), Path("/sys/fs/cgroup/memory/docker/abc")
    )


def test_cgroup_v2_has_one_place() -> None:
    found = parse_cgroup("0::/system.slice/docker-abc.scope\n", V2_MOUNTS)
    assert found.cpu == found.memory == Path("/sys/fs/cgroup/system.slice/docker-abc.scope")


def test_a_mount_of_a_part_of_the_hierarchy_is_followed() -> None:
    mounts = "30 23 0:26 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert parse_cgroup("0::/outer/abc\n", mounts).cpu == Path("/sys/fs/cgroup/abc")


def test_no_cgroup_is_said() -> None:
    with pytest.raises(NoCgroup, match="neither"):
        parse_cgroup("0::/\n", "")


@pytest.mark.parametrize("version", [1, 2])
def test_accounts_are_read_in_seconds_and_bytes(tmp_path: Path, version: int) -> None:
    files = {
        1: {
            "cpuacct.usage": "2500000000\n",
            "memory.usage_in_bytes": "1000\n",
            "memory.stat": "cache 1\ntotal_inactive_file 300\n",
        },
        2: {
            "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            "memory.current": "1000\n",
            "memory.stat": "anon 1\ninactive_file 300\n",
        },
    }[version]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    cgroup = Cgroup(version, tmp_path, tmp_path)
    assert cgroup.cpu_seconds() == 2.5
    assert cgroup.working_set() == 700


def test_a_busy_process_shows_its_cpu_time_and_memory() -> None:
    before = usages([os.getpid()])[0]
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    after = usages([os.getpid(), 2**22 + 1])
    assert len(after) == 1
    assert after[0].cpu_seconds - before.cpu_seconds >= 0.05
    assert after[0].pss > 1e6


def test_delays_are_medians_of_what_was_seen_and_heard() -> None:
    seconds = [
        {"seen": {"delay_ms": p}, "heard": {"delay_ms": s}} for p, s in ((40, 90), (None, 80), (60, 100))
    ]
    assert delays_of(seconds) == Delays(50, 90)
    assert delays_of([]) == Delays(None, None)


def test_the_table_shows_what_the_gateway_adds_and_what_was_not_measured() -> None:
    row = with_added(Row("gateway", "video", 5, 8.25, 30, 40, 54, 92), Delays(4, 62))
    text = table([row, Row("gateway", "video", 8, 0, 0, 0, problem="503 Service Unavailable")])
    assert "54 (+50)" in text
    assert "92 (+30)" in text
    assert "not measured: 503 Service Unavailable" in text


def test_busy_are_those_that_worked_all_the_time_the_busiest_last() -> None:
    before = [
        Usage(1, "a", 1.0, 0),
        Usage(2, "b", 2.0, 0),
        Usage(3, "idle", 3.0, 0),
        Usage(4, "gone", 0.0, 0),
    ]
    after = [Usage(1, "a", 9.0, 0), Usage(2, "b", 4.0, 0), Usage(3, "idle", 3.01, 0), Usage(5, "new", 5.0, 0)]
    assert [usage.name for usage in busy_ones(before, after, 10)] == ["b", "a"]
