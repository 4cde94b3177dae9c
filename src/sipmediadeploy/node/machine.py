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
_FIB_TRIE = Path("/proc/net/fib_trie")


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
    for stat in proc.glob("[0-9]*/stat"):
        try:
            # After the command's name, which is in parentheses and may contain anything (proc(5)).
            state, parent = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # it has ended just now
            continue
        if state in ("T", "t") and str(pid) in (stat.parent.name, parent):
            return True
    return False


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


def has_address(address: IPv4Address) -> bool:
    """Whether ``address`` is one of this machine's own (binding to it does not tell: ip_nonlocal_bind)."""
    return is_local(address, _FIB_TRIE.read_text(encoding="ascii"))


def is_local(address: IPv4Address, fib_trie: str) -> bool:
    """Whether ``address`` is local by the text of ``/proc/net/fib_trie``. Pure."""
    lines = iter(fib_trie.splitlines())
    return any(line.strip().endswith(f"-- {address}") and "host LOCAL" in next(lines, "") for line in lines)
