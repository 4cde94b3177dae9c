"""CPU time and memory of processes and containers, from cgroups (v1 and v2) and /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_BUSY_SHARE = 0.005
_TICKS = os.sysconf("SC_CLK_TCK")


class NoCgroup(Exception):
    """The process has no cgroup that accounts for what is asked."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Where one container's accounts are."""

    version: int
    cpu: Path
    memory: Path

    def cpu_seconds(self) -> float:
        """CPU time that the container has used so far."""
        if self.version == 1:
            return int((self.cpu / "cpuacct.usage").read_text()) / 1e9
        return _fields(self.cpu / "cpu.stat")["usage_usec"] / 1e6

    def working_set(self) -> int:
        """Bytes in use without the page cache that could go (as ``docker stats`` counts)."""
        if self.version == 1:
            used = int((self.memory / "memory.usage_in_bytes").read_text())
            return used - _fields(self.memory / "memory.stat").get("total_inactive_file", 0)
        used = int((self.memory / "memory.current").read_text())
        return used - _fields(self.memory / "memory.stat").get("inactive_file", 0)

    def pids(self) -> list[int]:
        return [int(line) for line in (self.cpu / "cgroup.procs").read_text().split()]


@dataclass(frozen=True, slots=True)
class Usage:
    """One process."""

    pid: int
    name: str
    cpu_seconds: float
    pss: int
    """Bytes, with shared pages divided by their users."""


def cgroup_of(pid: int) -> Cgroup:
    """The cgroup of a process (of a container: any process in it).

    Raises:
        NoCgroup: no hierarchy accounts for its CPU time and memory.
        OSError: the process is gone.
    """
    lines = Path(f"/proc/{pid}/cgroup").read_text()
    return parse_cgroup(lines, Path("/proc/self/mountinfo").read_text())


def parse_cgroup(membership: str, mountinfo: str) -> Cgroup:
    """From the text of ``/proc/PID/cgroup`` and of the reader's ``mountinfo`` (see cgroups(7), proc(5))."""
    paths = {
        name: path
        for _, names, path in (line.split(":", 2) for line in membership.splitlines() if line)
        for name in names.split(",")
    }
    mounts = _mounts(mountinfo)
    if "cpuacct" in paths and "memory" in paths and {"cpuacct", "memory"} <= mounts.keys():
        return Cgroup(
            1, _below(mounts["cpuacct"], paths["cpuacct"]), _below(mounts["memory"], paths["memory"])
        )
    if "" in paths and "" in mounts:
        unified = _below(mounts[""], paths[""])
        return Cgroup(2, unified, unified)
    raise NoCgroup("neither cgroup v1 (cpuacct and memory) nor v2 is mounted for this process")


def usages(pids: Iterable[int]) -> list[Usage]:
    """CPU time and memory of each process; those that are gone are left out."""
    found = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
        except OSError:
            continue
        name, rest = stat[stat.index("(") + 1 :].rsplit(")", 1)
        user, system = (int(value) for value in rest.split()[11:13])
        found.append(Usage(pid, name, (user + system) / _TICKS, rollup.get("Pss:", 0) * 1024))
    return found


def busy_ones(before: Iterable[Usage], after: Iterable[Usage], seconds: float) -> list[Usage]:
    """Those that were there all the time and used more than half a percent of a core, the busiest last."""
    began = {usage.pid: usage.cpu_seconds for usage in before}
    used = [(u.cpu_seconds - began[u.pid], u) for u in after if u.pid in began]
    return [u for share, u in sorted(used, key=lambda one: one[0]) if share > _BUSY_SHARE * seconds]


def _mounts(mountinfo: str) -> dict[str, tuple[str, Path]]:
    """Controller ("" for v2) to (root of the mount, mount point)."""
    found: dict[str, tuple[str, Path]] = {}
    for line in mountinfo.splitlines():
        fields = line.split()
        kind, _, options = fields[fields.index("-") + 1 :][:3]
        place = fields[3], Path(fields[4])
        if kind == "cgroup2":
            found.setdefault("", place)
        elif kind == "cgroup":
            for name in options.split(","):
                found.setdefault(name, place)
    return found


def _below(mount: tuple[str, Path], path: str) -> Path:
    root, point = mount
    if root != "/" and path.startswith(root):
        path = path[len(root) :]
    return point / path.lstrip("/")


def _fields(path: Path) -> dict[str, int]:
    """A file of "name number" lines; other lines are left out."""
    pairs = (line.split()[:2] for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
