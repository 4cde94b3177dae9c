"""``smd images prune``."""

from __future__ import annotations

import sys

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack.cloud import Cloud, read_credentials
from sipmediadeploy.providers.openstack.images import delete_image, list_images, too_old, versions_in_use


def prune(cloud_name: str | None, keep: int, dry_run: bool) -> int:
    """Delete old images of roles, a line for each; 1: the cloud refused to delete some."""
    cloud = Cloud(lambda: read_credentials(cloud_name))
    refused = 0
    try:
        images = list_images(cloud)
        old = too_old(images, keep, versions_in_use(cloud))
        for image in old:
            if not dry_run:
                try:
                    delete_image(cloud, image)
                except ProviderError as e:
                    print(f"smd: {e}", file=sys.stderr)
                    refused += 1
                    continue
            done = "would be deleted" if dry_run else "deleted"
            print(f"{image.name} {image.version} of {image.created_at}: {done}")
    finally:
        cloud.close()
    print(f"{len(images) - len(old) + refused} images are kept")
    return 1 if refused else 0
