"""The application as it goes into an image: a directory of Python packages and the demo conference's page."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from sipmediadeploy.images.inputs import ImageError

PYTHON_VERSION = "3.11"
"""Debian bookworm's."""
_GLIBC = "2_36"
_TIMEOUT_S = 300


def build_site_packages(root: Path, cache: Path) -> Path:
    """The application and its locked dependencies, as a directory for ``PYTHONPATH`` of bookworm's Python.

    The dependencies are kept in ``cache`` from one build to the next for as long as the lock is the same.

    Raises:
        ImageError: uv is missing or fails.
    """
    locked = _locked(root / "requirements.lock", cache)
    target = _fresh(cache / "dist" / "site-packages")
    shutil.copytree(locked, target, symlinks=True, dirs_exist_ok=True)
    _uv("the application", "pip", "install", "--no-deps", "--target", str(target), str(root))
    for trace in ("direct_url.json", "uv_cache.json", "uv_build.json"):
        for path in target.glob(f"sipmediadeploy-*.dist-info/{trace}"):
            path.unlink()  # they name the directory on this machine
    return target


def build_ansible(root: Path, cache: Path) -> Path:
    """Ansible for a build stage, as a directory for ``PYTHONPATH``; kept while its lock is the same."""
    return _locked(root / "deploy" / "ansible" / "requirements.lock", cache)


def _locked(lock: Path, cache: Path) -> Path:
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    done = cache / f"packages-{digest}"
    if not done.is_dir():
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
        if not done.is_dir():
            work.rename(done)
        shutil.rmtree(work, ignore_errors=True)
    return done


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _uv(what: str, *arguments: str) -> None:
    command = [*_find_uv(), *arguments, "--quiet", "--python", sys.executable]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
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


def build_web(root: Path, target: Path) -> None:
    """Make the demo conference's page by ``web/build.sh``, as files for a web server in ``target``.

    Raises:
        ImageError: its build fails.
    """
    command = [str(root / "web" / "build.sh"), str(_fresh(target))]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if result.returncode:
        output = (result.stdout + result.stderr).strip()
        raise ImageError(f"the demo page can't be built:\n  {output[-2000:]}")
