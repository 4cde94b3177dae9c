"""Pushes images of roles to a registry, under the version's tag and the commit's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import DockerException

from sipmediadeploy.images.build import is_there
from sipmediadeploy.images.inputs import ImageError
from sipmediadeploy.images.registry import Place, explain, stored_login
from sipmediadeploy.providers.docker.engine import reason
from sipmediadeploy.providers.docker.labels import image_name
from sipmediadeploy.stack import Role

_COMMIT_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image that the registry has now."""

    name: str
    """REGISTRY/PREFIX/ROLE:TAG."""
    digest: str
    """Of its manifest: ``sha256:`` and 64 hex digits."""


def tags(version: str, revision: str | None) -> list[str]:
    """The tags in a registry of images of ``version``: it, and with the commit where that is known."""
    return [version, *([f"{version}-{revision[:_COMMIT_LENGTH]}"] if revision else [])]


def require(client: docker.DockerClient, roles: Iterable[Role], version: str) -> None:
    """Make sure that the images of ``roles`` are on this host.

    Raises:
        ImageError: one is missing.
    """
    for role in roles:
        if not is_there(client, name := image_name(role, version)):
            raise ImageError(f"image {name} is missing: smd images build")


def push(
    client: docker.DockerClient, place: Place, role: Role, version: str, revision: str | None
) -> Iterator[Pushed]:
    """Push the image of ``role`` to ``place``; each tag once it is there.

    The names that it needs on this host are removed again. The credentials are those of ``docker login``.

    Raises:
        ImageError: the registry can't be reached, or refuses.
    """
    for tag in tags(version, revision):
        name = f"{place.name(role)}:{tag}"
        was_there = is_there(client, name)
        try:
            client.api.tag(image_name(role, version), place.name(role), tag)
            # Told even when there is none: a push without any is no valid request.
            login = stored_login(place.registry)
            told = client.api.push(place.name(role), tag, stream=True, decode=True, auth_config=login)
            digest = digest_of(place, told)
        except (DockerException, requests.RequestException) as e:
            raise ImageError(explain(place.registry, reason(e))) from None
        finally:
            if not was_there:
                with contextlib.suppress(DockerException, requests.RequestException):  # it was never made
                    client.api.remove_image(name)
        yield Pushed(name, digest)


def digest_of(place: Place, lines: Iterable[dict[str, Any]]) -> str:
    """The digest that the engine's ``lines`` about a push tell in the end.

    Raises:
        ImageError: they tell of an error, or of no digest.
    """
    digest = ""
    for line in lines:
        if "error" in line:
            raise ImageError(explain(place.registry, " ".join(str(line["error"]).split())))
        digest = line.get("aux", {}).get("Digest", digest)
    if not digest:
        raise ImageError(explain(place.registry, "the push ended and told no digest"))
    return digest
