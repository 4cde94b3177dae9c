"""What the lab has on this host: a control group, namespaces, one network interface and one rule.

All of its processes are in the control group, so they are found without a file that could be stale. When its
process 1 ends, the kernel ends the others, and the mounts and the interface are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness.openstack.settings import Lab, LabError
from tests.lab.openstack.inside.init import UPLINK

_ENTER = Path(__file__).with_name("enter")
_CGROUPS = Path("/sys/fs/cgroup")
_RULE = "2031"
_DELETED_DISK = re.compile(r"^(/lab)?/nova/instances/[0-9a-f-]{36}\w*/disk( \(deleted\))$")
_END_LIMIT_S = 15
_KILL_LIMIT_S = 15


def cgroups(lab: Lab) -> list[Path]:
    """The lab's control groups, one in each hierarchy; they may not be there.

    A hierarchy with nothing but shares of the processors is left to this host: who slows the lab down moves
    its processes there, and libvirt takes an instance for ended whose group is empty.
    """
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / lab.name]
    hierarchies = {path.resolve() for path in _CGROUPS.iterdir() if path.is_dir()}
    return sorted(path / lab.name for path in hierarchies if path.name != "cpu")


def processes(lab: Lab) -> set[int]:
    """All processes of the lab, those of its instances too."""
    found: set[int] = set()
    for group in cgroups(lab):
        for path in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the group went meanwhile
                found.update(int(word) for word in path.read_text().split())
    return found


def process_one(lab: Lab) -> int | None:
    """The first process in the lab's namespaces, by its number on this host; None: the lab is down."""
    for pid in sorted(processes(lab)):
        with contextlib.suppress(OSError):
            numbers = namespace_pids(Path(f"/proc/{pid}/status").read_text())
            # An instance has a process 1 as well, one namespace deeper.
            if len(numbers) == depth() + 1 and numbers[-1] == "1":
                return pid
    return None


def running(lab: Lab) -> int:
    """The number on this host of the lab's process 1.

    Raises:
        LabError: the lab is not up.
    """
    pid = process_one(lab)
    if pid is None:
        raise LabError("the lab is not up: make openstack-lab brings it up")
    return pid


def depth() -> int:
    """In how many nested process namespaces this process is, as /proc shows it."""
    return len(namespace_pids(Path("/proc/self/status").read_text())) or 1


def memory(lab: Lab) -> str:
    """How much memory the lab's processes have of their own, in words; no file that they read."""
    for group in cgroups(lab):
        with contextlib.suppress(OSError):
            words = (group / "memory.stat").read_text().split()
            values = dict(zip(words[::2], words[1::2], strict=True))
            return f"{int(values.get('total_rss', values.get('anon', 0))) / 2**30:.1f} GiB"
    return "an unknown amount"


def state_of(pid: int) -> Path:
    """The state directory of the lab whose process 1 is ``pid``."""
    return Path(f"/proc/{pid}/root/lab")


def start(lab: Lab, log: Path) -> int:
    """Start process 1 in namespaces of its own, on files that are there; its number on this host.

    Raises:
        LabError: it ended at once.
    """
    groups = cgroups(lab)
    for group in groups:
        group.mkdir(exist_ok=True)
        _inherit_cpuset(group)

    def join() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text("0")

    spaces = [f"--{kind}" for kind in ("net", "mount", "pid", "uts", "ipc", "cgroup")]
    command = ["unshare", *spaces, "--propagation", "private", "--fork", "--kill-child=KILL", str(_ENTER)]
    command += [str(lab.root), str(lab.state), str(_ENTER.parents[2]), lab.name]
    with log.open("wb") as output:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=join,
            cwd="/",
        )
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pid = process_one(lab)
        if pid is not None:
            return pid
        if not processes(lab):
            break
        time.sleep(0.01)
    raise LabError(f"the lab's first process ended at once: {log.read_text(errors='replace').strip()}")


def _inherit_cpuset(group: Path) -> None:
    """A new cpuset of version 1 has no processor, and takes no process, until it is given some."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = group / name
        if file.exists() and not file.read_text().strip() and (group.parent / name).exists():
            file.write_text((group.parent / name).read_text())


def connect(lab: Lab, pid: int) -> None:
    """Give the host its interface on the lab's public network; what is there already stays."""
    _delegate(lab)
    if not _has_rule(lab):
        # What comes in from the lab is for this host or for nobody: nothing in it has a way out.
        run(["ip", "rule", "add", "pref", _RULE, "iif", lab.name, "unreachable"])
    if not has_link(lab.name):
        run(["ip", "link", "add", lab.name, "type", "veth", "peer", "name", UPLINK, "netns", str(pid)])
    run(["ip", "link", "set", lab.name, "addrgenmode", "none"])
    run(["ip", "addr", "replace", f"{lab.host_address}/24", "dev", lab.name])
    run(["ip", "link", "set", lab.name, "up"])


def _has_rule(lab: Lab) -> bool:
    rules = json.loads(run(["ip", "-json", "rule", "show", "pref", _RULE]) or "[]")
    return any(rule.get("iif") == lab.name for rule in rules)


def _delegate(lab: Lab) -> None:
    """In version 2 of control groups, let instances have groups with limits, and no process beside."""
    group = cgroups(lab)[0]
    if not (group / "cgroup.controllers").exists():
        return
    services = group / "services"
    services.mkdir(exist_ok=True)
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (services / "cgroup.procs").write_text(pid)
    for controller in (group / "cgroup.controllers").read_text().split():
        (group / "cgroup.subtree_control").write_text(f"+{controller}")


def has_link(name: str) -> bool:
    """Whether this host has a network interface of that name."""
    return Path("/sys/class/net", name).exists()


def end(lab: Lab) -> None:
    """End all of the lab's processes, if there are any, and remove what it has on this host.

    Raises:
        LabError: something stays.
    """
    pid = process_one(lab)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait_gone(lab, _END_LIMIT_S)
    for left in processes(lab):
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
    if not _wait_gone(lab, _KILL_LIMIT_S):
        left_over = ", ".join(map(str, sorted(processes(lab))))
        raise LabError(f"processes of the lab do not end: {left_over}; is a disk not answering? Try again")
    sweep(lab)


def sweep(lab: Lab) -> None:
    """Remove what a lab that has no process left behind."""
    for device in _loop_devices(lab):
        run(["losetup", "--detach", device], check=False)
    if has_link(lab.name) and _kind(lab.name) == "veth":
        # It goes with the namespace of its other end, which the kernel removes in its own time.
        run(["ip", "link", "del", lab.name], check=False)
    if _has_rule(lab):
        run(["ip", "rule", "del", "pref", _RULE, "iif", lab.name])
    for group in cgroups(lab):
        for directory in sorted(group.rglob("*/"), reverse=True) if group.exists() else ():
            with contextlib.suppress(OSError):
                directory.rmdir()
        with contextlib.suppress(FileNotFoundError):
            group.rmdir()


def _kind(name: str) -> str:
    links = json.loads(run(["ip", "-json", "-details", "link", "show", "dev", name], check=False) or "[]")
    kind: str = links[0].get("linkinfo", {}).get("info_kind", "") if links else ""
    return kind


def _loop_devices(lab: Lab) -> Iterator[str]:
    """Loop devices of instances' disks.

    By inode, for their paths are of a mount namespace that is gone. Disks that were deleted have no trace but
    the path; to detach one that another lab's instance uses only makes it go when that instance does.
    """
    disks = {
        (os.major(info.st_dev), os.minor(info.st_dev), info.st_ino)
        for info in (path.stat() for path in (lab.state / "nova").rglob("*") if path.is_file())
    }
    text = run(["losetup", "--json", "--list", "--output", "NAME,BACK-MAJ:MIN,BACK-INO,BACK-FILE"])
    for device in json.loads(text)["loopdevices"] if text.strip() else ():
        major, minor = (int(number) for number in device["back-maj:min"].split(":"))
        if (major, minor, int(device["back-ino"])) in disks or _DELETED_DISK.search(
            device["back-file"] or ""
        ):
            yield device["name"]


def _wait_gone(lab: Lab, limit_s: float) -> bool:
    end_at = time.monotonic() + limit_s
    while processes(lab):
        if time.monotonic() > end_at:
            return False
        time.sleep(0.05)
    return True


def enter_command(pid: int, command: Sequence[str]) -> list[str]:
    """``command`` in the namespaces and the root file system of the lab whose process 1 is ``pid``."""
    return ["nsenter", "--target", str(pid), "--all", "--root", "--wdns=/", *command]


def namespace_pids(status: str) -> list[str]:
    """A process's numbers in the nested namespaces it is in, from /proc/PID/status; the innermost last."""
    match = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
    return match[1].split() if match else []


def run(command: Sequence[str], *, check: bool = True, limit_s: float = 30) -> str:
    """What a command of this host printed.

    Raises:
        LabError: it is missing, or failed and ``check`` is set.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except FileNotFoundError:
        raise LabError(f"{command[0]} is missing: ./smd host-packages lab installs what is needed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)}: no end within {limit_s:.0f} s") from None
    if check and result.returncode:
        raise LabError(f"{' '.join(command)}: {result.stderr.strip() or f'code {result.returncode}'}")
    return result.stdout
