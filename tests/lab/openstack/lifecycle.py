"""Brings the lab up and down. Both can be repeated, and interrupted at any point."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tests.harness.openstack.settings import NETWORK, Lab, LabError
from tests.lab.openstack import host, ranges, rootfs
from tests.lab.openstack.inside.config import PORTS, REGION, SECRETS

Report = Callable[[str], None]
_LOCK_LIMIT_S = 1800
_SILENCE_LIMIT_S = 900
_SHOWN = frozenset({"ready", "done", "ended"})


def up(lab: Lab, report: Report, *, fresh: bool = False) -> None:
    """Make the lab run, whatever state it was left in. ``fresh``: with a new, empty cloud.

    Raises:
        LabError: it can't be; what it was doing is undone.
    """
    _need_root()
    lab.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(lab, report):
        started = time.monotonic()
        pid = host.process_one(lab)
        if pid is not None and (fresh or not _is_usable(lab, pid)):
            report("a lab that is broken, or is to be new, is running: ending it")
            host.end(lab)
            pid = None
        if pid is not None and is_up(lab):
            host.connect(lab, pid)
            report(f"the lab is up already, with {host.memory(lab)} of memory")
            return
        try:
            if pid is None:
                pid = _begin(lab, report, fresh=fresh)
            host.connect(lab, pid)
            follow(lab, pid, report)
        except BaseException:
            # Ctrl-C, too. The state stays, and each unfinished step of it is made anew by the next start.
            if host.processes(lab):
                report("ending what was started")
            host.end(lab)
            raise
        report(f"the lab is up, after {time.monotonic() - started:.0f} s, with {host.memory(lab)} of memory")


def down(lab: Lab, report: Report, *, wipe: bool = False) -> None:
    """End the lab. ``wipe``: and remove all it kept; else the next up has the same cloud and instances.

    Raises:
        LabError: something does not end.
    """
    _need_root()
    if not lab.directory.exists():
        host.end(lab)
        return
    with _locked(lab, report):
        started = time.monotonic()
        host.end(lab)
        if wipe:
            _wipe(lab)
        report(f"the lab is down, after {time.monotonic() - started:.1f} s")


def _wipe(lab: Lab) -> None:
    """Remove what a lab makes in its directory, and that if nothing else is in it."""
    for path in (lab.root, lab.root.with_name("root.new"), lab.state, lab.images):
        rootfs.remove_tree(path)
    for path in (
        lab.clouds,
        lab.openrc,
        *(lab.directory / name for name in ("root.log", "start.log", "lock")),
    ):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        lab.directory.rmdir()


def _begin(lab: Lab, report: Report, *, fresh: bool) -> int:
    host.end(lab)
    if host.has_link(lab.name):
        raise LabError(
            f"this host has a network interface {lab.name} that is not the lab's: remove or rename it"
        )
    ranges.check_range(lab)
    if not rootfs.is_current(lab.root):
        report("making a root file system with OpenStack's packages, once, in some minutes")
        started = time.monotonic()
        rootfs.make_root(lab)
        report(f"root file system: {time.monotonic() - started:.0f} s")
    if fresh:
        rootfs.remove_tree(lab.state)
    lab.state.mkdir(mode=0o755, exist_ok=True)
    cloud = _cloud(lab)
    _write_clients_files(lab, cloud["secrets"])
    (lab.state / "progress").unlink(missing_ok=True)
    return host.start(lab, lab.directory / "start.log")


def _is_usable(lab: Lab, pid: int) -> bool:
    """Whether a running lab is on the way up, or up; an error says that it is another one."""
    try:
        ours = host.state_of(pid).samefile(lab.state)
    except OSError:
        return False
    if not ours:
        raise LabError(
            f"a lab called {lab.name} is running on this host with its files in another directory: end that "
            "one, or give this one another name, range and directory (see tests/lab/openstack/README.md)"
        )
    _cloud(lab)
    return not any(line["event"] in {"failed", "stopping"} for line in read_progress(lab.state / "progress"))


def _cloud(lab: Lab) -> Any:
    """The addresses and secrets of the lab's cloud, which are made with it."""
    path = lab.state / "cloud.json"
    if path.exists():
        cloud = json.loads(path.read_text())
        if cloud["network"] != str(lab.network):
            raise LabError(
                f"the cloud in {lab.state} was made with {NETWORK}={cloud['network']}, and has that in its "
                "databases: set that, or make a new cloud with `up --fresh`"
            )
        return cloud
    cloud = {
        "network": str(lab.network),
        "gateway": str(lab.host_address),
        "address": str(lab.api_address),
        "floating": [str(lab.network[10]), str(lab.network[200])],
        "secrets": {name: secrets.token_urlsafe(24) for name in SECRETS},
    }
    _write_private(path, json.dumps(cloud))
    return cloud


def _write_clients_files(lab: Lab, passwords: dict[str, str]) -> None:
    def entry(user: str, project: str) -> dict[str, Any]:
        return {
            "auth": {
                "auth_url": f"http://{lab.api_address}:{PORTS['identity']}/v3",
                "username": user,
                "password": passwords[user],
                "project_name": project,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": REGION,
            "identity_api_version": 3,
            "interface": "public",
        }

    # JSON is YAML.
    clouds = json.dumps(
        {"clouds": {"lab": entry("lab", "lab"), "lab-admin": entry("admin", "admin")}}, indent=2
    )
    _write_private(lab.clouds, clouds + "\n")
    (lab.state / "etc").mkdir(mode=0o700, exist_ok=True)
    _write_private(lab.state / "etc/clouds.yaml", clouds + "\n")
    lines = [f"export OS_CLIENT_CONFIG_FILE={lab.clouds} OS_CLOUD=lab"]
    lines += [f'export {name}="{lab.network}${{{name}:+,${name}}}"' for name in ("no_proxy", "NO_PROXY")]
    lab.openrc.write_text(
        "\n".join(lines).replace(str(lab.network), f"{lab.network},{lab.api_address}") + "\n"
    )


def _write_private(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.rename(path)


def follow(lab: Lab, pid: int, report: Report) -> None:
    """Tell of the progress of a lab that is starting, whose process 1 is ``pid``, until it is up.

    Raises:
        LabError: something failed, ended, or took too long.
    """
    told = 0
    last = time.monotonic()
    while True:
        is_alive = Path(f"/proc/{pid}").exists()
        lines = read_progress(lab.state / "progress")
        for line in lines[told:]:
            last = time.monotonic()
            if line["event"] in _SHOWN:
                code = f" with code {line['code']}" if "code" in line else ""
                report(f"{line['at']:6.1f} s  {line['unit']} {line['event']}{code}")
        told = len(lines)
        if any(line["event"] == "up" for line in lines):
            return
        failed = next((line for line in lines if line["event"] == "failed"), None)
        if failed is not None:
            raise LabError(
                f"{failed['unit']} failed:\n{_tail(lab.state / 'log' / (failed['unit'] + '.log'))}"
            )
        if not is_alive:
            raise LabError(f"the lab ended while it was starting:\n{_tail(lab.directory / 'start.log')}")
        if time.monotonic() - last > _SILENCE_LIMIT_S:
            raise LabError(f"nothing has become ready for {_SILENCE_LIMIT_S} s; see {lab.state / 'log'}")
        time.sleep(0.1)


def is_up(lab: Lab) -> bool:
    """Whether the running lab has finished its start."""
    return any(line["event"] == "up" for line in read_progress(lab.state / "progress"))


def read_progress(path: Path) -> list[Any]:
    """What the supervisor wrote so far; a line that it is writing just now is left out."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()[-15:]
    except OSError:
        lines = []
    return "".join(f"  {line}\n" for line in lines) + f"All of it: {path}"


@contextlib.contextmanager
def _locked(lab: Lab, report: Report) -> Iterator[None]:
    """One command at a time changes the lab. The lock ends with the process that has it."""
    path = lab.directory / "lock"
    end = time.monotonic() + _LOCK_LIMIT_S
    told = False
    while True:
        with path.open("w") as file:
            if _is_locked(file, path):
                yield
                return
        if time.monotonic() > end:
            raise LabError(f"another command has had {path} for {_LOCK_LIMIT_S} s: end it first")
        if not told:
            report("another command is changing the lab: waiting for it")
            told = True
        time.sleep(0.2)
        lab.directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _is_locked(file: TextIO, path: Path) -> bool:
    """Lock ``file``, if it is free and still the one at ``path``: another command may have wiped it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except (BlockingIOError, FileNotFoundError):
        return False


def _need_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root, for namespaces and mounts: try again with sudo")
    if shutil.which("unshare") is None:
        raise LabError("unshare is missing (Debian's package util-linux)")
