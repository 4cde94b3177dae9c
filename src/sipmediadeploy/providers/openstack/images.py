"""The images that Packer has made (``deploy/packer``): which there are, and which are too old to be kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.errors import Missing
from sipmediadeploy.providers.openstack.lookup import VERSION_PROPERTY

ROLE_PROPERTY = "smd_role"


@dataclass(frozen=True, slots=True)
class RoleImage:
    """One image of a role."""

    id: str
    name: str
    role: str
    version: str
    created_at: str
    """As Glance says it: later ones sort behind (ISO 8601, UTC)."""
    protected: bool = False


def list_images(cloud: Cloud) -> list[RoleImage]:
    """The project's own images of roles.

    Raises:
        ProviderError: they can't be read.
    """
    query = {"owner": cloud.project, "sort": "created_at:desc"}
    found = (role_image(one) for one in cloud.all("the images", "image", "/images", "images", query))
    return [image for image in found if image is not None]


def role_image(image: Mapping[str, Any]) -> RoleImage | None:
    """An image as Glance shows it; None: it is not one that ``deploy/packer`` has made. Pure."""
    if not image.get(ROLE_PROPERTY) or not image.get(VERSION_PROPERTY):
        return None
    return RoleImage(
        id=str(image["id"]),
        name=str(image.get("name") or ""),
        role=str(image[ROLE_PROPERTY]),
        version=str(image[VERSION_PROPERTY]),
        created_at=str(image.get("created_at") or ""),
        protected=bool(image.get("protected")),
    )


def versions_in_use(cloud: Cloud) -> frozenset[str]:
    """The versions of which the project has servers: their scalers make replicas from the same images.

    Raises:
        ProviderError: the servers can't be read.
    """
    servers = cloud.all("the servers", "compute", "/servers/detail", "servers")
    found = ((server.get("metadata") or {}).get(marks.VERSION) for server in servers)
    return frozenset(str(version) for version in found if version)


def too_old(images: Iterable[RoleImage], keep: int, in_use: Collection[str]) -> list[RoleImage]:
    """What to delete so that each role keeps its ``keep`` newest versions, and every one in use. Pure.

    Of a version that was built twice only the newest image is kept: replicas are made from that one.
    """
    newest_first = sorted(images, key=lambda image: image.created_at, reverse=True)
    kept: dict[str, list[str]] = {}
    old: list[RoleImage] = []
    for image in newest_first:
        versions = kept.setdefault(image.role, [])
        wanted = image.version in in_use or len([one for one in versions if one not in in_use]) < keep
        if image.protected:
            continue
        if image.version not in versions and wanted:
            versions.append(image.version)
        else:
            old.append(image)
    return old


def delete_image(cloud: Cloud, image: RoleImage) -> None:
    """Delete one; that it is gone already is no error.

    Raises:
        ProviderError: the cloud refuses.
    """
    try:
        cloud.delete(f"deleting image {image.name} {image.version}", "image", f"/images/{quote(image.id)}")
    except Missing:
        return
