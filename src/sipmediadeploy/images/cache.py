"""What takes long to make and is the same each time, kept on this host for every checkout, by content hash.

Each entry is one file, with its SHA-256 beside it; a directory is a tar archive. Whatever is wrong with the
cache (missing, damaged, full, read-only, somebody else's), it costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DIRECTORY, LIMIT = "SMD_CACHE_DIR", "SMD_CACHE_GB"
DEFAULT_LIMIT_GB = 8.0
_SPARED = 2 * 10**9
"""Bytes that are left free on the file system."""
_CONTENT, _ABOUT, _UNFINISHED = "content", "about.json", ".new-"
_ABANDONED_S = 3600
_CHUNK = 2**20
_TAR = ("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*")


@dataclass(frozen=True, slots=True)
class Cache:
    """A bounded cache; the entries that were used longest ago give way to new ones."""

    directory: Path | None
    """``None``: there is none, and nothing is kept."""
    limit: int = int(DEFAULT_LIMIT_GB * 1e9)
    """Bytes that it may take."""

    def take(self, name: str, target: Path, max_age_s: float | None = None) -> bool:
        """Make ``target`` the file or directory kept as ``name``; whether it is there now.

        It appears whole or not at all, and only when its content has the hash that it was kept with.
        An entry older than ``max_age_s`` seconds is not used.
        """
        if self.directory is None:
            return False
        entry = self.directory / _entry_name(name)
        try:
            about = json.loads((entry / _ABOUT).read_text())
            with (entry / _CONTENT).open("rb") as content:
                if max_age_s is not None and time.time() - os.fstat(content.fileno()).st_mtime > max_age_s:
                    return False
                is_good = _unpack(content, about, target)
        except OSError:  # it is not there, can't be read, or there is no room for it
            return target.exists()
        except (ValueError, KeyError, TypeError):
            is_good = False
        if not is_good:
            with contextlib.suppress(OSError):
                shutil.rmtree(entry)
            return target.exists()
        with contextlib.suppress(OSError):
            os.utime(entry / _ABOUT)
        return True

    def keep(self, name: str, source: Path) -> None:
        """Keep the file or directory ``source`` as ``name``, in place of what is kept so."""
        if self.directory is None:
            return
        size = sum(_sizes(source))
        with contextlib.suppress(OSError):
            if size > min(self.limit, shutil.disk_usage(self.directory).free - _SPARED):
                return
            entry = self.directory / _entry_name(name)
            new = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.directory))
            try:
                about = _pack(source, new / _CONTENT)
                (new / _ABOUT).write_text(json.dumps(about))
                if entry.exists():
                    shutil.rmtree(entry)
                new.rename(entry)
            finally:
                shutil.rmtree(new, ignore_errors=True)
            self._prune()

    def _prune(self) -> None:
        """Remove what was used longest ago, until the rest is within the limit."""
        assert self.directory is not None
        entries = []
        for entry in self.directory.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.startswith(_UNFINISHED):
                    if time.time() - entry.stat().st_mtime > _ABANDONED_S:
                        shutil.rmtree(entry)
                else:
                    used = (entry / _ABOUT).stat().st_mtime
                    entries.append((used, (entry / _CONTENT).stat().st_size, entry))
        total = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries):
            if total <= self.limit:
                return
            shutil.rmtree(entry, ignore_errors=True)
            total -= size


def open_cache(environment: Mapping[str, str] = os.environ) -> Cache:
    """The cache that ``environment`` names: ``SMD_CACHE_DIR``, at most ``SMD_CACHE_GB`` gigabytes large.

    A directory that another user owns or may write to is not used: programs come out of it.
    """
    directory = cache_directory(environment)
    try:
        limit = float(environment.get(LIMIT) or DEFAULT_LIMIT_GB)
    except ValueError:
        limit = DEFAULT_LIMIT_GB
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return Cache(directory, int(limit * 1e9))
    return Cache(None)


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where the cache is. Pure, but for who this user is."""
    if environment.get(DIRECTORY):
        return Path(environment[DIRECTORY]).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/sipmediadeploy")
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sipmediadeploy"


def _entry_name(name: str) -> str:
    return f"{name}-{platform.machine()}"


def _sizes(path: Path) -> Iterator[int]:
    if not path.is_dir():
        yield path.stat().st_size
        return
    for parent, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                yield Path(parent, name).lstat().st_size


def _pack(source: Path, content: Path) -> dict[str, object]:
    """Write ``source`` to the new file ``content``; what must be known to take it again."""
    is_tree = source.is_dir()
    with content.open("xb") as output:
        if is_tree:
            command = [*_TAR, "--one-file-system", "-C", str(source), "-cf", "-", "."]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar:
                assert tar.stdout is not None
                digest = _copy(tar.stdout, output)
            if tar.returncode:
                raise OSError(f"{source} can't be packed")
        else:
            with source.open("rb") as file:
                digest = _copy(file, output)
    return {"sha256": digest, "tree": is_tree, "mode": source.stat().st_mode & 0o777}


def _unpack(content: IO[bytes], about: Mapping[str, object], target: Path) -> bool:
    """Make ``target`` of an entry's content; false: it is damaged, and ``target`` was left alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / "new"
        if about["tree"]:
            new.mkdir()
            command = [*_TAR, "-C", str(new), "-xpf", "-"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar:
                assert tar.stdin is not None
                digest = ""
                with contextlib.suppress(BrokenPipeError), tar.stdin:
                    digest = _copy(content, tar.stdin)
            is_good = tar.returncode == 0
        else:
            with new.open("xb") as file:
                digest = _copy(content, file)
            is_good = True
        if not is_good or digest != about["sha256"]:
            return False
        new.chmod(int(str(about["mode"])))
        with contextlib.suppress(OSError):  # another process was quicker
            new.rename(target)
    return target.exists()


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a file; the SHA-256 of it, in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()
