"""Makes images of root file systems: of any directory or tar, and of a plain Debian 12 server."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sipmediadeploy.images.cache import open_cache
from sipmediadeploy.images.host import read_host
from tests.harness.openstack.settings import Lab, LabError
from tests.lab.openstack import host, rootfs
from tests.lab.openstack.inside.busybox import MAKE_EXT4

Report = Callable[[str], None]
_MEBIBYTE = 2**20
PACKAGES = (
    *("systemd-sysv", "dbus", "cloud-init", "ifupdown", "isc-dhcp-client", "iproute2", "netbase"),
    *("procps", "openssh-server", "sudo", "iputils-ping", "python3"),
)
"""Of a Debian server."""
# What a container has no part in: devices, consoles, disks, the clock, and timers that a lab's instance only
# loses time with.
_MASKED = (
    *("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket"),
    *("systemd-udev-trigger.service", "systemd-udev-settle.service", "systemd-logind.service"),
    *(
        "getty@tty1.service",
        "console-getty.service",
        "systemd-timesyncd.service",
        "systemd-remount-fs.service",
    ),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-networkd-wait-online.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("fstrim.timer", "dpkg-db-backup.timer", "systemd-tmpfiles-clean.timer"),
)
_CLOUD_INIT = """\
datasource_list: [OpenStack]
datasource: {OpenStack: {max_wait: 60, timeout: 5, retries: 5, apply_network_config: false}}
network: {config: disabled}
manage_etc_hosts: true
growpart: {mode: 'off'}
resize_rootfs: false
package_update: false
locale: false
apt: {preserve_sources_list: true}
system_info:
  default_user: {name: debian, shell: /bin/bash, lock_passwd: true, sudo: ['ALL=(ALL) NOPASSWD:ALL']}
"""
_INTERFACES = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"
# An instance may set what is of its network alone: /proc/sys/net/ipv4 is writable, and /proc/sys/net is not.
_SYSCTL = "[Unit]\nConditionPathIsReadWrite=\nConditionPathIsReadWrite=/proc/sys/net/ipv4\n"
# Option 121 has the way to the metadata service where there is no router.
_DHCLIENT = """\
timeout 20;
retry 1;
initial-interval 1;
backoff-cutoff 1;
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, interface-mtu,
    rfc3442-classless-static-routes;
"""


def ensure_debian(lab: Lab, report: Report, packages: Sequence[str] = (), name: str = "debian-12") -> str:
    """Make a Debian 12 server with ``packages`` (once), upload it as the image ``name``; its id.

    Its package sources are this host's, of Debian 12; without any, those that mmdebstrap names.

    Raises:
        LabError: it can't be made, or the lab is not up.
    """
    recipe = [Path(__file__).read_text(), rootfs.recipe(), *sorted(packages)]
    key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
    raw = lab.images / f"debian-{key}.raw"
    if not raw.exists():
        report("making a Debian 12 server")
        lab.images.mkdir(mode=0o700, exist_ok=True)
        root = lab.images / "debian.root"
        rootfs.remove_tree(root)
        shared = open_cache()
        if not shared.take(f"lab-debian-{key}", root, rootfs.KEPT_S):
            rootfs.bootstrap([*PACKAGES, *packages], root, lab.images / "debian.log")
            shared.keep(f"lab-debian-{key}", root)
        prepare_server(root)
        if sources := read_host().sources:
            rootfs.write(root / "etc/apt/sources.list", sources)
        if (root / "etc/apt/sources.list").exists():
            shutil.copyfile(root / "etc/apt/sources.list", package_sources(lab))
        make_raw(lab, root, raw)
        rootfs.remove_tree(root)
    return upload(lab, report, raw, name)


def package_sources(lab: Lab) -> Path:
    """Where the sources.list of the Debian server is kept, once it was made."""
    return lab.images / "debian.sources.list"


def upload_root(lab: Lab, report: Report, source: Path, name: str) -> str:
    """Upload a root file system, a directory or a tar (compressed or not), as the image ``name``; its id.

    Raises:
        LabError: it can't be.
    """
    lab.images.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=lab.images) as scratch:
        raw = Path(scratch) / "image.raw"
        make_raw(lab, source, raw)
        return upload(lab, report, raw, name)


def prepare_server(root: Path) -> None:
    """Make the Debian with systemd and cloud-init in the directory ``root`` start well as an instance.

    What is a host's own goes: machine id, host keys, package lists. It gets its address by DHCP and all else
    from the metadata service; the user is ``debian``, with sudo.
    """
    for path in (
        *root.glob("var/lib/apt/lists/*"),
        *root.glob("var/cache/apt/*"),
        *root.glob("etc/ssh/ssh_host_*"),
    ):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for unit in _MASKED:
        _link(root / "etc/systemd/system" / unit, "/dev/null")
    rootfs.write(root / "etc/machine-id", "")
    rootfs.write(root / "etc/hostname", "localhost\n")
    # A name server that is not in reach costs cloud-init 30 s.
    rootfs.write(root / "etc/resolv.conf", "")
    rootfs.write(root / "etc/cloud/cloud.cfg.d/90-lab.cfg", _CLOUD_INIT)
    rootfs.write(root / "etc/network/interfaces", _INTERFACES)
    rootfs.write(root / "etc/systemd/system/systemd-sysctl.service.d/lab.conf", _SYSCTL)
    rootfs.write(root / "etc/dhcp/dhclient.conf", _DHCLIENT)


def make_raw(lab: Lab, source: Path, target: Path) -> None:
    """Make ``target``, a disk image with one ext4 file system, of a root file system (directory or tar).

    It has little room besides: Nova copies it byte by byte and then grows it to the flavour's disk. The tools
    are those of the lab's root file system, so this host needs none.

    Raises:
        LabError: ``source`` is no root file system, or there is no room.
    """
    if not rootfs.is_current(lab.root):
        raise LabError("images are made with the lab's tools: bring it up once (make openstack-lab)")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root = source
        if not source.is_dir():
            root = Path(scratch) / "root"
            root.mkdir()
            host.run(
                ["tar", "-xpf", str(source), "-C", str(root), "--numeric-owner", "--xattrs-include=*"],
                limit_s=600,
            )
        if not any((root / name).exists() for name in ("sbin/init", "usr/sbin/init")) and not (
            (root / "sbin/init").is_symlink()
        ):
            raise LabError(f"{source} has no /sbin/init: an instance starts that")
        size = _mebibytes(root)
        new = Path(scratch) / "new.raw"
        tools = ["chroot", str(lab.root), *MAKE_EXT4, "/run"]
        _in_tools(lab, root, Path(scratch), [*tools, f"/tmp/{new.name}", f"{size}M"])
        new.rename(target)


def _in_tools(lab: Lab, root: Path, scratch: Path, command: list[str]) -> None:
    """Run ``command`` where the lab's root has ``root`` at /run and ``scratch`` at /tmp, for it alone."""
    mounts = (
        f"mount --bind {root.absolute()} {lab.root}/run && mount --bind {scratch.absolute()} {lab.root}/tmp"
    )
    script = f'{mounts} && exec "$@"'
    host.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command], limit_s=600
    )


def _mebibytes(root: Path) -> int:
    """How large a file system must be for what is in ``root``: blocks, inodes and some room."""
    used, _ = host.run(["du", "-sm", "--apparent-size", str(root)], limit_s=300).split(maxsplit=1)
    blocks, _ = host.run(["du", "-sm", str(root)], limit_s=300).split(maxsplit=1)
    return max(int(used), int(blocks)) * 118 // 100 + 48


def upload(
    lab: Lab, report: Report, raw: Path, name: str, properties: Mapping[str, str] | None = None
) -> str:
    """Upload a raw file as the public image ``name``, in place of older ones of that name; its id.

    Raises:
        LabError: the lab is not up, or refuses it.
    """
    pid = host.running(lab)
    command = ["/usr/bin/python3", "-m", "tests.lab.openstack.inside.setup", "image", name]
    command += [f"{key}={value}" for key, value in (properties or {}).items()]
    with raw.open("rb") as content:
        result = subprocess.run(
            host.enter_command(pid, ["env", "PYTHONPATH=/opt/lab", *command]),
            stdin=content,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise LabError(f"image {name}: {result.stderr.strip()}")
    report(f"image {name}: {raw.stat().st_size // _MEBIBYTE} MiB, {result.stdout.strip()}")
    return result.stdout.strip()


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
