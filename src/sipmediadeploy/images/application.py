"""Directories of locked Python packages: the application and its dependencies, and what builds need."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sipmediadeploy.images.cache import open_cache
from sipmediadeploy.images.inputs import ImageError

PYTHON_VERSION = "3.11"
"""Debian bookworm's."""
_GLIBC = "2_36"
_TIMEOUT_S = 300
_KEPT_S = 3600
_USELESS = ("bin", "openstack/tests")
"""Commands that name this machine's Python, and a dependency's own tests."""


def build_dependencies(root: Path, cache: Path) -> Path:
    """The application's locked dependencies, as a directory for ``PYTHONPATH`` of bookworm's Python.

    It is kept in ``cache`` for as long as the lock is the same.

    Raises:
        ImageError: uv is missing or fails.
    """
    found = _locked(root / "requirements.lock", cache)
    for useless in _USELESS:
        shutil.rmtree(found / useless, ignore_errors=True)
    return found


def build_application(root: Path, cache: Path, version: str) -> Path:
    """The application alone, to be put beside its dependencies.

    It is made in ``cache`` once for each ``version`` of the images, so that several builds may run at a time.

    Raises:
        ImageError: uv is missing or fails.
    """
    done = cache / f"dist-{version}"
    if done.is_dir():
        return done
    for old in cache.glob("dist-*"):
        if time.time() - old.stat().st_mtime > _KEPT_S:
            shutil.rmtree(old, ignore_errors=True)
    work = _fresh(cache / f"dist-{version}.{os.getpid()}")
    _uv("the application", "pip", "install", "--no-deps", "--target", str(work), str(root))
    shutil.rmtree(work / "bin", ignore_errors=True)  # see _USELESS; replicas have /usr/bin/smd
    for trace in ("direct_url.json", "uv_cache.json", "uv_build.json"):
        for path in work.glob(f"sipmediadeploy-*.dist-info/{trace}"):
            path.unlink()  # they name the directory on this machine
    return settle(work, done)


def build_ansible(root: Path, cache: Path) -> Path:
    """Ansible for a build stage, as a directory for ``PYTHONPATH``; kept while its lock is the same."""
    return _locked(root / "deploy" / "ansible" / "requirements.lock", cache)


def build_test_packages(root: Path, cache: Path) -> Path:
    """The application's dependencies and those of its tests; kept while their lock is the same."""
    return _locked(root / "requirements-dev.lock", cache)


def build_node(root: Path, cache: Path) -> Path:
    """Node.js and npm for the host, as a directory of Python packages; kept while their lock is the same."""
    return _locked(root / "web" / "node.lock", cache)


def _locked(lock: Path, cache: Path) -> Path:
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    done = cache / f"packages-{digest}"
    shared = open_cache()
    if not done.is_dir() and not shared.take(done.name, done):
        work = _fresh(cache / f"packages-{digest}.{os.getpid()}")
        platform_tag = f"{platform.machine()}-manylinux_{_GLIBC}"
        _uv(
            f"the packages of {lock.name}",
            *("pip", "install", "--target", str(work), "--python-version", PYTHON_VERSION),
            *(
                "--python-platform",
                platform_tag,
                "--only-binary",
                ":all:",
                "--require-hashes",
                "-r",
                str(lock),
            ),
        )
        shared.keep(done.name, work)
        settle(work, done)
    return done


def settle(work: Path, done: Path) -> Path:
    """Give a finished directory its name, unless another build was quicker."""
    work.touch()
    with contextlib.suppress(OSError):
        work.rename(done)
    shutil.rmtree(work, ignore_errors=True)
    return done


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _uv(what: str, *arguments: str) -> None:
    command = [*_find_uv(), *arguments, "--quiet", "--python", sys.executable]
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if result.returncode:
        raise ImageError(f"{what} can't be installed for the images:\n  {result.stderr.strip()}")


def _find_uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return [str(beside)]
    probe = subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    if found is None:
        raise ImageError("uv is missing: install it with 'python3 -m pip install uv' and try again")
    return [found]
