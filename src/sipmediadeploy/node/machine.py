"""The machine that the agent runs on: rendered files, interfaces, its own addresses."""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

from sipmediadeploy.node.roles.base import RenderedFile

_SIOCGIFADDR = 0x8915


def write_files(files: dict[Path, RenderedFile]) -> bool:
    """Write what differs from what is there, each file atomically with its owner and mode.

    Returns whether a running service has to be restarted for it.

    Raises:
        OSError: a file can't be written.
        KeyError: there is no such user.
    """
    restart = False
    for path, file in files.items():
        owner = pwd.getpwnam(file.owner)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, mode=0o750)
            os.chown(path.parent, owner.pw_uid, owner.pw_gid)
        if path.exists() and path.read_bytes() == file.content.encode():
            continue
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(descriptor, file.mode)
            os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
            out.write(file.content.encode())
        new.replace(path)
        restart = restart or not file.live
    return restart


def is_stopped(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether the process, or a child of it, is stopped (SIGSTOP, a debugger): it lives and does nothing."""
    children = (_read_text(path).split() for path in proc.glob(f"{pid}/task/*/children"))
    pids = [str(pid), *(child for of_thread in children for child in of_thread)]
    return any(_stat_fields(one, proc)[:1] in (["T"], ["t"]) for one in pids)


def started_at(pid: int, proc: Path = Path("/proc")) -> str | None:
    """When the process was started, in the kernel's ticks: with it a pid names one process only; None: it has
    ended.
    """
    fields = _stat_fields(str(pid), proc)
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else None


def _stat_fields(pid: str, proc: Path) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state on (proc(5)); none when the process has ended."""
    # After the command's name, which is in parentheses and may contain anything.
    return _read_text(proc / pid / "stat").rpartition(")")[2].split()


def _read_text(path: Path) -> str:
    """The text of a file of the kernel's; nothing when it has gone meanwhile."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def free_share(path: Path) -> float:
    """The share of the file system of ``path`` that is free; all of it where there is none."""
    try:
        seen = os.statvfs(path)
    except OSError:
        return 1.0
    return seen.f_bavail / seen.f_blocks if seen.f_blocks else 1.0


def interface_of(address: IPv4Address) -> str | None:
    """The name of the interface whose first address is ``address``; None when there is none (yet)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)
            except OSError:  # no IPv4 address on it
                continue
            if IPv4Address(answer[20:24]) == address:
                return name
    return None
