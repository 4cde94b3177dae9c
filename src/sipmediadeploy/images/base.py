"""The base of all images: Debian bookworm, pulled where a registry answers, else made with mmdebstrap."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker
import requests
from docker.errors import DockerException, ImageNotFound

from sipmediadeploy.images.cache import open_cache
from sipmediadeploy.images.host import SUITE, HostPackages
from sipmediadeploy.images.inputs import ImageError

BASE = "smd/base"
_REMOTE, _REMOTE_TAG = "debian", f"{SUITE}-slim"
_PROBE_TIMEOUT_S = 5
_MMDEBSTRAP_TIMEOUT_S = 600
_KEPT_S = 7 * 86400
"""An older one from the cache lacks too many of Debian's updates."""
_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NO_DOCS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
)

Report = Callable[[str], None]


def ensure_base(client: docker.DockerClient, host: HostPackages, work: Path, report: Report) -> str:
    """The name of the base image, which is made first if it is not there. ``work`` takes the log.

    Raises:
        ImageError: no registry answers and mmdebstrap is missing or fails.
    """
    tag = base_tag()
    name = f"{BASE}:{tag}"
    try:
        client.images.get(name)
    except ImageNotFound:
        if not _pull(client, tag, report):
            _make(client, tag, host, work, report)
    return name


def base_tag() -> str:
    """The tag of the base image: it changes when the way it is made does."""
    recipe = Path(__file__).read_bytes()
    return f"{SUITE}-{hashlib.sha256(recipe).hexdigest()[:8]}"


def _pull(client: docker.DockerClient, tag: str, report: Report) -> bool:
    try:
        probe = docker.DockerClient.from_env(timeout=_PROBE_TIMEOUT_S)
        probe.images.get_registry_data(f"{_REMOTE}:{_REMOTE_TAG}")
        report(f"base image: pulling {_REMOTE}:{_REMOTE_TAG}")
        client.images.pull(_REMOTE, _REMOTE_TAG).tag(BASE, tag)
    except (DockerException, requests.RequestException):
        return False
    return True


def _make(client: docker.DockerClient, tag: str, host: HostPackages, work: Path, report: Report) -> None:
    shared = open_cache()
    with tempfile.TemporaryDirectory(prefix="smd-base-") as scratch:
        tar = Path(scratch) / "base.tar"
        if shared.take(f"base-{tag}", tar, _KEPT_S):
            report("base image: no registry answers; Debian bookworm was made before")
        else:
            report("base image: no registry answers; making Debian bookworm with mmdebstrap")
            _bootstrap(host, Path(scratch), tar, work / "debian.log")
            shared.keep(f"base-{tag}", tar)
        client.api.import_image(str(tar), repository=BASE, tag=tag, changes=['CMD ["/bin/sh"]'])


def _bootstrap(host: HostPackages, scratch: Path, tar: Path, log: Path) -> None:
    """Make the base's root file system as the new file ``tar``.

    Raises:
        ImageError: mmdebstrap is missing or fails.
    """
    if shutil.which("mmdebstrap") is None:
        raise ImageError(
            "base image: no container registry answers and mmdebstrap, which could make the image, is not "
            "installed: apt-get install mmdebstrap debian-archive-keyring"
        )
    command = mmdebstrap_command(host, scratch, tar)
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                command, stdout=output, stderr=output, check=False, timeout=_MMDEBSTRAP_TIMEOUT_S
            ).returncode
        except subprocess.TimeoutExpired:
            raise ImageError(
                f"base image: mmdebstrap took over {_MMDEBSTRAP_TIMEOUT_S} s; see {log}"
            ) from None
    if code:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-12:])
        raise ImageError(f"base image: mmdebstrap failed (code {code}), all of it in {log}:\n  {tail}")


def mmdebstrap_command(host: HostPackages, scratch: Path, tar: Path) -> list[str]:
    """The command that makes the base's root file system; files it needs are written to ``scratch``.

    The host's sources and settings are used to fetch packages and are not in the result.
    """
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
    # force-unsafe-io: a file system that is half made is thrown away.
    command += [f"--dpkgopt={line}" for line in (*_NO_DOCS, "force-unsafe-io")]
    command += ['--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"']
    if host.apt_conf:
        conf = scratch / "95host"
        conf.write_text(host.apt_conf)
        command.append(f"--aptopt={conf}")
    command.append('--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap')
    command.append('--customize-hook=sed -i /force-unsafe-io/d "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap')
    if not host.sources and _DEBIAN_KEYS.exists():
        # Another distribution's apt does not trust them by itself.
        command.append(f"--keyring={_DEBIAN_KEYS}")
    if host.sources:
        command.append('--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*')
    command += ['--customize-hook=: > "$1"/etc/resolv.conf', SUITE, str(tar)]
    if host.sources:
        sources = scratch / "sources.list"
        sources.write_text(host.sources)
        command.append(str(sources))
    return command
