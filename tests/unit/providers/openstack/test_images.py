"""Which images are too old."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.errors import Missing
from sipmediadeploy.providers.openstack.images import (
    RoleImage,
    delete_image,
    list_images,
    role_image,
    too_old,
    versions_in_use,
)


def image(role: str, version: str, day: int, *, protected: bool = False) -> RoleImage:
    return RoleImage(
        f"{role}-{version}-{day}",
        f"smd-{role}",
        role,
        version,
        f"2026-11-{day:02}T10:00:00Z",
        protected,
    )


def old(images: list[RoleImage], keep: int, in_use: set[str] | None = None) -> list[str]:
    return sorted(one.id for one in too_old(images, keep, in_use or set()))


MANY = [image("kamailio", f"v{day}", day) for day in range(1, 6)]


def test_the_newest_versions_of_each_role_are_kept() -> None:
    assert old(MANY, 2) == ["kamailio-v1-1", "kamailio-v2-2", "kamailio-v3-3"]
    assert old([*MANY, image("coturn", "v1", 1)], 5) == []


def test_a_version_that_is_in_use_is_kept_and_does_not_count() -> None:
    assert old(MANY, 2, {"v1"}) == ["kamailio-v2-2", "kamailio-v3-3"]
    assert old(MANY, 2, {"v5"}) == ["kamailio-v1-1", "kamailio-v2-2"]


def test_of_a_version_that_was_built_twice_the_newest_is_kept() -> None:
    assert old([image("gateway", "v1", 1), image("gateway", "v1", 2)], 3, {"v1"}) == ["gateway-v1-1"]


def test_what_glance_protects_is_left_alone() -> None:
    assert old([*MANY, image("kamailio", "v0", 1, protected=True)], 5) == []


def test_other_images_are_none_of_ours() -> None:
    assert role_image({"id": "1", "name": "debian-12"}) is None
    assert role_image({"id": "1", "name": "smd-kamailio", "smd_role": "kamailio"}) is None


class FakeCloud:
    """Lists what it is given, and deletes nothing."""

    project = "mine"

    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        self._lists = lists
        self.asked: list[tuple[str, object]] = []

    def all(
        self, what: str, service: str, path: str, key: str, params: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        self.asked.append((path, params))
        return iter(self._lists[key])

    def delete(self, what: str, service: str, path: str) -> None:
        raise Missing(f"{what}: {path} is gone")


def test_only_the_projects_own_images_are_listed() -> None:
    ours = {"id": "1", "name": "smd-gateway", "smd_role": "gateway", "smd_version": "v1", "created_at": "x"}
    fake = FakeCloud(images=[ours, {"id": "2", "name": "debian-12"}])
    assert [one.id for one in list_images(cast("Cloud", fake))] == ["1"]
    assert fake.asked == [("/images", {"owner": "mine", "sort": "created_at:desc"})]


def test_versions_are_those_of_the_projects_servers() -> None:
    fake = FakeCloud(servers=[{"metadata": {"smd.version": "v1"}}, {"metadata": {}}, {}])
    assert versions_in_use(cast("Cloud", fake)) == {"v1"}


@pytest.mark.parametrize("one", MANY[:1])
def test_an_image_that_is_gone_already_is_no_error(one: RoleImage) -> None:
    delete_image(cast("Cloud", FakeCloud()), one)
