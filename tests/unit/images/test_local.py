"""The images on this host as the engine's list has them."""

from __future__ import annotations

from typing import Any

from sipmediadeploy.images.local import local_images


def entry(created: int, *names: str, revision: str = "") -> dict[str, Any]:
    labels = {"smd.image": "coturn"}
    if revision:
        labels["org.opencontainers.image.revision"] = revision
    return {"Id": f"sha256:{created}", "Created": created, "Size": 9, "RepoTags": names, "Labels": labels}


def test_each_name_is_listed_and_of_one_name_the_newest_first() -> None:
    found = local_images(
        [
            entry(1, "smd/coturn:old"),
            entry(2, "smd/coturn:new", "registry.test:5000/coturn:new", revision="f" * 40),
        ]
    )
    assert [(one.name, one.tag, one.id) for one in found] == [
        ("registry.test:5000/coturn", "new", "sha256:2"),
        ("smd/coturn", "new", "sha256:2"),
        ("smd/coturn", "old", "sha256:1"),
    ]
    assert [one.revision for one in found] == ["f" * 40, "f" * 40, None]
    assert found[0].created == "1970-01-01T00:00:02+00:00"


def test_what_lost_its_name_is_not_listed() -> None:
    assert local_images([entry(1, "<none>:<none>"), {**entry(1), "RepoTags": None}]) == []
