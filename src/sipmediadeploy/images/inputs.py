"""What the images are made from: files of the project, and one content hash over all of them."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sipmediadeploy import package_version
from sipmediadeploy.stack import Role

ROLES: tuple[Role, ...] = (Role.GATEWAY, Role.CONFERENCE_DEMO, Role.KAMAILIO, Role.COTURN, Role.SCALER)
"""The roles that have an image; the one that takes longest comes first."""

INPUTS = (
    "deploy/ansible",
    "deploy/docker",
    "src/sipmediadeploy",
    "web",
    "requirements.lock",
    "pyproject.toml",
)
"""The files and directories of a checkout that images are made from."""
_SKIPPED = frozenset({"__pycache__", "node_modules", "dist", ".cache", "build"})


class ImageError(Exception):
    """An image can't be built, published or listed. The message says which, why and what to do."""


def project_root() -> Path:
    """The checkout that this package runs from.

    Raises:
        ImageError: the package runs from somewhere else, where the image recipes are not.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "deploy" / "docker").is_dir():
        raise ImageError(
            f"{root} has no deploy/docker: images are built from a checkout of the project; "
            "run ./smd in one, or load images that were built there (docker save, docker load)"
        )
    return root


def files_under(path: Path) -> Iterator[Path]:
    """Every file at or under ``path`` that can end up in an image, in a fixed order."""
    if path.is_symlink() or path.is_file():
        if path.suffix != ".pyc":
            yield path
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name not in _SKIPPED:
                yield from files_under(child)


def content_hash(root: Path, inputs: Iterable[str], extra: str = "") -> str:
    """SHA-256 (hex) over names, modes and contents of the files under ``inputs``, each below ``root``."""
    digest = hashlib.sha256(extra.encode())
    for name in inputs:
        for path in files_under(root / name):
            executable = os.access(path, os.X_OK)
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            head = f"\0{path.relative_to(root).as_posix()}\0{executable}\0{len(content)}\0"
            digest.update(head.encode())
            digest.update(content)
    return digest.hexdigest()


def images_version(root: Path) -> str:
    """The tag of the images of the checkout at ``root``; it changes if, and only if, an input does."""
    return f"{package_version()}-{content_hash(root, INPUTS, platform.machine())[:12]}"


def context_tar(trees: Mapping[str, Path], texts: Mapping[str, str] | None = None) -> io.BytesIO:
    """A Docker build context as a tar archive in memory.

    ``trees`` maps a place in the context to a file or directory to put there, ``texts`` a place to the text
    of a file. Owners and times are left out, so that the same content is the same archive.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for place, path in trees.items():
            tar.add(path, place, filter=neutral)
        for place, text in (texts or {}).items():
            data = text.encode()
            info = tarfile.TarInfo(place)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def neutral(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A filter for ``TarFile.add``: no owners, times and bytecode; modes say only what may be run."""
    if Path(info.name).name == "__pycache__" or info.name.endswith(".pyc"):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = 0
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info
