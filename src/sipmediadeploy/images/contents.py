"""Reads out of an image what it is made of. Nothing in the image is run."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable

import docker

from sipmediadeploy.images.inputs import ImageError
from sipmediadeploy.images.sbom import (
    Contents,
    parse_dpkg_status,
    parse_metadata,
    parse_release,
)

_STATUS = "/var/lib/dpkg/status"
_RELEASE = "/usr/lib/os-release"
_SITE_PACKAGES = "/opt/smd/site-packages"


def read_contents(client: docker.DockerClient, image: str) -> Contents:
    """What the local ``image`` (NAME:TAG) is made of.

    A container is made of it, never started, and removed again.

    Raises:
        ImageError: it lacks a file that tells.
        DockerException: the engine refuses.
    """
    attrs = client.images.get(image).attrs
    name, _, tag = image.rpartition(":")
    container = client.api.create_container(attrs["Id"], ["true"])["Id"]
    try:

        def read(path: str, wanted: Callable[[str], bool]) -> list[str]:
            try:
                return _read(client, container, path, wanted)
            except docker.errors.NotFound:
                raise ImageError(f"image {image} has no {path}: it is not one of a role") from None

        return Contents(
            name=name,
            version=tag,
            image_id=attrs["Id"],
            created=attrs["Created"],
            labels=dict(attrs["Config"]["Labels"] or {}),
            release=parse_release("".join(read(_RELEASE, lambda _name: True))),
            debian=parse_dpkg_status("".join(read(_STATUS, lambda _name: True))),
            python=parse_metadata(read(_SITE_PACKAGES, is_metadata)),
        )
    finally:
        client.api.remove_container(container, v=True, force=True)


def is_metadata(name: str) -> bool:
    """Whether the archive member ``name`` is the core metadata of a distribution in site-packages."""
    parts = name.split("/")
    return len(parts) == 3 and parts[1].endswith(".dist-info") and parts[2] == "METADATA"


def _read(client: docker.DockerClient, container: str, path: str, wanted: Callable[[str], bool]) -> list[str]:
    """The texts of the wanted files at or below ``path``."""
    stream, _ = client.api.get_archive(container, path)
    with tempfile.TemporaryFile() as spool:
        for chunk in stream:
            spool.write(chunk)
        spool.seek(0)
        with tarfile.open(fileobj=spool) as tar:
            files = (tar.extractfile(info) for info in tar if info.isfile() and wanted(info.name))
            return [file.read().decode() for file in files if file is not None]
