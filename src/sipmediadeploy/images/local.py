"""The images of roles that the engine on this host has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import docker

from sipmediadeploy.images.labels import LABEL_ROLE, OCI_REVISION


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A name of an image on this host."""

    name: str
    tag: str
    id: str
    """The digest of its configuration: ``sha256:`` and 64 hex digits."""
    size: int
    """Bytes, unpacked; layers that images share count for each."""
    created: str
    """RFC 3339."""
    revision: str | None
    """The commit that it is made from, where that is known."""


def list_local(client: docker.DockerClient) -> list[LocalImage]:
    """The images of roles here, by name, the newest first."""
    return local_images(client.api.images(filters={"label": LABEL_ROLE}))


def local_images(images: Iterable[dict[str, Any]]) -> list[LocalImage]:
    """The entries of the engine's list ``images``, one for each name, by name, the newest first."""
    found = []
    for image in images:
        created = datetime.fromtimestamp(image["Created"], UTC).isoformat()
        for full in image["RepoTags"] or ():
            name, _, tag = full.rpartition(":")
            if tag != "<none>":
                revision = image["Labels"].get(OCI_REVISION)
                found.append(LocalImage(name, tag, image["Id"], image["Size"], created, revision))
    newest_first = sorted(found, key=lambda one: one.created, reverse=True)
    return sorted(newest_first, key=lambda one: one.name)
