"""The application for servers: what ``deploy/ansible`` brings to a machine that is no container."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from sipmediadeploy import package_version
from sipmediadeploy.images import application, web
from sipmediadeploy.images.inputs import content_hash, images_version, neutral

_INPUTS = ("src/sipmediadeploy", "requirements.lock", "pyproject.toml")
VERSION, ARCHIVE, PAGE = "version", "site-packages.tar.gz", "web"

Report = Callable[[str], None]


def write_application(root: Path, directory: Path, report: Report) -> bool:
    """Write the application of the checkout at ``root`` to ``directory``; whether it was not there already.

    ``version`` names it, ``site-packages.tar.gz`` has it with its dependencies for Debian 12's Python,
    ``web`` the demo conference's page. The version comes last: without it, nothing is there.

    Raises:
        ImageError: it can't be built.
        OSError: it can't be written.
    """
    version = application_version(root)
    page = content_hash(root, ["web"])[:16]
    mark = f"{version}\n{page}\n"
    made_from = directory / ".made-from"
    if made_from.exists() and made_from.read_text() == mark:
        return False
    cache = root / ".cache" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    made_from.unlink(missing_ok=True)
    report("application: its dependencies")
    dependencies = application.build_dependencies(root, cache)
    own = application.build_application(root, cache, images_version(root))
    report("application: the demo conference's page")
    shutil.rmtree(directory / PAGE, ignore_errors=True)
    shutil.copytree(web.build_page(root, cache), directory / PAGE)
    report("application: packing")
    _pack(directory / ARCHIVE, [dependencies, own])
    (directory / VERSION).write_text(f"{version}\n")
    made_from.write_text(mark)
    return True


def application_version(root: Path) -> str:
    """The version of the application for servers; it changes if, and only if, what is installed does."""
    return f"{package_version()}-{content_hash(root, _INPUTS)[:12]}"


def _pack(archive: Path, parts: list[Path]) -> None:
    """Put what is in the directories ``parts`` into ``site-packages`` of an archive that tells no times."""
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for part in parts:
            for child in sorted(part.iterdir()):
                tar.add(child, f"site-packages/{child.name}", filter=neutral)
