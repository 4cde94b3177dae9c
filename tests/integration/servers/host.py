"""A host as an operator has one: Debian 12 with systemd and an SSH server, in a container of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

from sipmediadeploy.images.host import SUITE, read_host

IMAGE = "smd/test-server"
_PACKAGES = (
    *("ca-certificates", "dbus", "iproute2", "netbase", "openssh-server", "procps", "python3"),
    *("sudo", "systemd-sysv"),
)
_NO_DOCS = ("doc", "man", "info", "locale", "lintian")
# systemd keeps its processes in a cgroup of version 2, this host's alone: in a container it is not told when
# one of version 1 is empty, and waits until a time limit whenever children outlive a service. What the kernel
# must allow is mounted read-only at first. Empty cgroups are those of hosts that were removed.
_INIT = """#!/bin/sh
set -e
mount -o remount,rw,bind /proc/sys
mkdir -p /run/cgroup
mount -t cgroup2 cgroup2 /run/cgroup
for old in /run/cgroup/smd-*; do
	if grep -qx 'populated 0' "$old/cgroup.events" 2>/dev/null; then
		find "$old" -depth -type d -exec rmdir {} \\; || true
	fi
done
mkdir -p "/run/cgroup/$1"
echo $$ >"/run/cgroup/$1/cgroup.procs"
umount /run/cgroup
# An engine makes cgroups of its own.
if [ "${2:-}" = containers ]; then
	awk '$2 ~ "^/sys/fs/cgroup" { print $2 }' /proc/mounts | while read -r at; do
		mount -o remount,rw,bind "$at"
	done
fi
exec unshare --cgroup /sbin/init systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0
"""
_CAPABILITIES = ("DAC_READ_SEARCH", "NET_ADMIN", "SYS_ADMIN", "SYS_NICE", "SYS_PTRACE")
_MMDEBSTRAP_LIMIT_S = 900


class NoHost(Exception):
    """There can be no such host here. The message says why."""


def ensure_image(engine: docker.DockerClient) -> str:
    """Make the image of a plain Debian server, once; its name."""
    host = read_host()
    recipe = [*_PACKAGES, *_NO_DOCS, host.sources, host.apt_conf, host.ca_bundle]
    name = f"{IMAGE}:{hashlib.sha256('|'.join(recipe).encode()).hexdigest()[:12]}"
    with contextlib.suppress(ImageNotFound):
        engine.images.get(name)
        return name
    with tempfile.TemporaryDirectory(prefix="smd-server-") as scratch:
        tar = Path(scratch) / "root.tar"
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar"]
        command += [f"--include={','.join(_PACKAGES)}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NO_DOCS]
        for name_, text in (("sources.list", host.sources), ("conf", host.apt_conf), ("ca", host.ca_bundle)):
            (Path(scratch) / name_).write_text(text)
        if host.apt_conf:
            command.append(f"--aptopt={scratch}/conf")
        # It is a host in this machine's network: it gets its packages as this machine does.
        if host.ca_bundle:
            command.append(f"--customize-hook=cp {scratch}/ca $1/etc/ssl/certs/ca-certificates.crt")
        command += [SUITE, str(tar), *([f"{scratch}/sources.list"] if host.sources else [])]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_MMDEBSTRAP_LIMIT_S
            )
        except FileNotFoundError:
            raise NoHost("mmdebstrap is not installed") from None
        if done.returncode:
            raise NoHost(f"no Debian server can be made: {done.stderr[-800:]}")
        repository, tag = name.split(":")
        engine.api.import_image(str(tar), repository=repository, tag=tag)
    return name


@dataclass(frozen=True, slots=True)
class Host:
    """One such host."""

    engine: docker.DockerClient
    name: str
    address: str

    def run(self, command: str, *, user: str = "root", check: bool = True) -> str:
        """Run a shell command on it; what it printed.

        Raises:
            AssertionError: it failed.
        """
        container = self.engine.containers.get(self.name)
        code, output = container.exec_run(["sh", "-c", command], user=user)
        text = bytes(output).decode(errors="replace")  # type: ignore[arg-type]  # it is no stream here
        assert not check or code == 0, f"{self.name}: {command}: {code}\n{text}"
        return text

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file there; not on a tmpfs."""
        self.engine.api.put_archive(self.name, "/", archive({path: (text, mode)}))

    def restart(self) -> None:
        """What pressing its reset button does."""
        self.engine.api.kill(self.name)
        self.engine.api.start(self.name)


def start_host(
    engine: docker.DockerClient,
    image: str,
    network: str,
    name: str,
    address: str,
    key: str,
    *,
    runs_containers: bool = False,
) -> Host:
    """Start a host in ``network``; ``key`` is the public SSH key of the operator, the user ``debian``.

    One that ``runs_containers`` may do all that an engine does, and has a disk that overlays may be on.
    """
    api = engine.api
    container = api.create_container(
        image,
        command=["/start", name, *(["containers"] if runs_containers else [])],
        name=name,
        hostname=name[:63],
        environment={"container": "docker"},
        stop_signal="RTMIN+3",
        volumes=["/var/lib/docker"] if runs_containers else [],
        host_config=api.create_host_config(
            cap_add=list(_CAPABILITIES),
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            tmpfs={"/run": "rw,exec,size=128m", "/run/lock": "rw", "/tmp": "rw,exec,size=256m"},
        ),
        networking_config={"EndpointsConfig": {network: api.create_endpoint_config(ipv4_address=address)}},
    )
    files = {
        "start": (_INIT, 0o755),
        "etc/sudoers.d/debian": ("debian ALL=(ALL) NOPASSWD:ALL\n", 0o440),
        "etc/operator.pub": (key, 0o644),
    }
    api.put_archive(container, "/", archive(files))
    try:
        api.start(container)
    except APIError as e:
        api.remove_container(container, force=True)
        raise NoHost(f"the engine starts no container with the capabilities of a server: {e}") from None
    host = Host(engine, name, address)
    host.run(
        "useradd --create-home --shell /bin/bash debian && install -d -m 700 -o debian -g debian"
        " /home/debian/.ssh && install -m 600 -o debian -g debian /etc/operator.pub"
        " /home/debian/.ssh/authorized_keys"
    )
    return host


def archive(files: Mapping[str, tuple[str, int]]) -> bytes:
    """A tar archive of ``files``: text and mode by path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (text, mode) in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            data = text.encode()
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
