"""The lab's root file system: Debian 12 with OpenStack's packages, made once by mmdebstrap."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sipmediadeploy.images.cache import open_cache
from sipmediadeploy.images.host import SUITE, HostPackages, read_host
from tests.harness.openstack.settings import Lab, LabError

PACKAGES = (
    # The cloud.
    *("keystone", "glance-api", "glance-common", "placement-api", "python3-openstackclient"),
    *("nova-api", "nova-conductor", "nova-scheduler", "nova-compute", "nova-compute-lxc"),
    *("neutron-server", "neutron-linuxbridge-agent", "neutron-l3-agent", "neutron-dhcp-agent"),
    *("neutron-metadata-agent", "libvirt-daemon", "libvirt-daemon-driver-lxc", "libvirt-clients"),
    # What it stands on.
    *("mariadb-server", "mariadb-client", "python3-pymysql", "rabbitmq-server"),
    *("uwsgi-core", "uwsgi-plugin-python3", "haproxy", "dnsmasq-base"),
    # What its agents call, and what somebody who looks at it wants.
    *("iproute2", "iptables", "ipset", "ebtables", "bridge-utils", "conntrack", "iputils-arping"),
    *("iputils-ping", "tcpdump", "curl", "procps", "util-linux", "e2fsprogs", "qemu-utils", "less"),
    # The smallest instance.
    "busybox-static",
)
_NO_DOCS = ("doc", "man", "info", "locale", "lintian", "help")
_MADE_FROM = "lab-made-from"
_LIMIT_S = 1800
KEPT_S = 30 * 86400
"""How long what is made of packages may stay in the cache."""
# Operators' tools and clients work without sudo; the agents' helpers insist on it. All are root here, and
# without rootwrap's filters a command costs 0.3 s less.
_SUDO = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in *-rootwrap) shift 2 ;; esac
exec "$@"
"""


def recipe() -> str:
    """Changes when the root file system must be made anew."""
    parts = (SUITE, *PACKAGES, *_NO_DOCS, _SUDO)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def is_current(root: Path) -> bool:
    """Whether ``root`` is there, and as this module would make it."""
    try:
        return (root / _MADE_FROM).read_text() == recipe()
    except OSError:
        return False


def make_root(lab: Lab) -> None:
    """Make the lab's root file system, in some minutes where it is not in the cache.

    An interrupted run leaves nothing in use.

    Raises:
        LabError: mmdebstrap fails.
    """
    new = lab.directory / "root.new"
    remove_tree(new)
    shared, name = open_cache(), f"lab-root-{recipe()}"
    if not shared.take(name, new, KEPT_S):
        bootstrap(PACKAGES, new, lab.directory / "root.log")
        shared.keep(name, new)
    for name in ("lab", "opt/lab", "run/before"):
        (new / name).mkdir(parents=True, exist_ok=True)
    write(new / "usr/local/bin/sudo", _SUDO, 0o755)
    write(new / "etc/hostname", "lab\n")
    write(new / "etc/hosts", "127.0.0.1 localhost lab\n")
    write(new / "etc/resolv.conf", "")
    write(new / "etc/machine-id", hashlib.md5(os.urandom(16)).hexdigest() + "\n")
    write(new / _MADE_FROM, recipe())
    remove_tree(lab.root)
    new.rename(lab.root)


def bootstrap(packages: Sequence[str], target: Path, log: Path) -> None:
    """Make a Debian root file system with ``packages`` in the new directory ``target``.

    The host's package sources and apt settings are used to fetch, and are not in the result. It runs in mount
    and process namespaces of its own: however it ends, no mount and no process stays.

    Raises:
        LabError: mmdebstrap fails; the last lines of ``log`` are told.
    """
    host = read_host()
    with tempfile.TemporaryDirectory(prefix="smd-oslab-") as scratch:
        command = bootstrap_command(host, packages, target, Path(scratch))
        # It ends with this process, whatever ends this process.
        wrapped = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--mount-proc"]
        wrapped += ["--kill-child=KILL", *command]
        with log.open("wb") as output:
            try:
                code = subprocess.run(
                    wrapped,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    check=False,
                    timeout=_LIMIT_S,
                    start_new_session=True,
                ).returncode
            except FileNotFoundError as e:
                raise LabError(
                    f"{e.filename} is missing: ./smd host-packages lab installs what is needed"
                ) from None
            except subprocess.TimeoutExpired:
                raise LabError(f"mmdebstrap took over {_LIMIT_S} s; see {log}") from None
    if code or not (target / "etc").is_dir():
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-12:])
        raise LabError(
            f"mmdebstrap failed (code {code}); are Debian's packages in reach? All of {log}:\n  {tail}"
        )


def bootstrap_command(host: HostPackages, packages: Sequence[str], target: Path, scratch: Path) -> list[str]:
    """mmdebstrap's command line; files that it needs are written to ``scratch``."""
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    command.append(f"--include={','.join(packages)}")
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NO_DOCS]
    command += ["--dpkgopt=force-unsafe-io", '--aptopt=APT::Install-Recommends "false"']
    command += ['--aptopt=Acquire::Languages "none"']
    if host.apt_conf:
        settings = scratch / "95host"
        settings.write_text(host.apt_conf)
        command.append(f"--aptopt={settings}")
    command.append(
        '--customize-hook=rm -rf "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap'
    )
    command.append('--customize-hook=rm -rf "$1"/etc/ssh/ssh_host_*')
    if host.sources:
        command.append('--customize-hook=rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*')
    command += [SUITE, str(target)]
    if host.sources:
        sources = scratch / "sources.list"
        sources.write_text(host.sources)
        command.append(str(sources))
    return command


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, and never what is mounted there.

    Raises:
        LabError: something is mounted there.
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mounted = line.split()[1].encode().decode("unicode_escape")
        if Path(mounted).is_relative_to(path):
            raise LabError(f"{mounted} is a mount, so that {path} is not removed: umount it and try again")
    if path.exists():
        shutil.rmtree(path)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in place of what is there, which may be a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
