"""Builds the stack's images, two side by side, and only when something they are made from has changed."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException, ImageNotFound

from sipmediadeploy.images import application, inputs, web
from sipmediadeploy.images.base import BASE, base_tag, ensure_base
from sipmediadeploy.images.host import SUITE, HostPackages, read_host
from sipmediadeploy.images.inputs import ROLES, ImageError
from sipmediadeploy.images.labels import LABEL_ROLE, LABEL_VERSION, find_revision, role_labels
from sipmediadeploy.images.parallel import run_side_by_side
from sipmediadeploy.providers.docker.engine import reason
from sipmediadeploy.providers.docker.labels import image_name
from sipmediadeploy.stack import Role

Report = Callable[[str], None]

TEST_IMAGE = "smd/test"
BUILD_BASE = f"smd/build:{SUITE}"
_SIDE_BY_SIDE = 2
_STEP_TIMEOUT_S = 900
_NEW_S = 3600
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Builder:
    """Where images are built from and to."""

    client: docker.DockerClient
    root: Path
    """The checkout."""
    cache: Path
    """Keeps what the next build can use, and the logs."""
    report: Report
    """Takes lines for the user."""

    @property
    def recipes(self) -> Path:
        """The directory of the Dockerfiles."""
        return self.root / "deploy" / "docker"

    @property
    def roles(self) -> Path:
        """The directory of the Ansible roles."""
        return self.root / "deploy" / "ansible"


def make_builder(root: Path, report: Report) -> Builder:
    """A builder of the checkout at ``root``; its engine may be silent for as long as one step of a build.

    Raises:
        DockerException: there is no engine.
        OSError: the cache can't be made.
    """
    cache = root / ".cache" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    return Builder(docker.DockerClient.from_env(timeout=_STEP_TIMEOUT_S), root, cache, report)


def ensure_images(client: docker.DockerClient, report: Report) -> str:
    """Make sure that an image of every role is there; the version (tag) that they have.

    Raises:
        ImageError: one can't be built.
    """
    root = inputs.project_root()
    version = inputs.images_version(root)
    try:
        if missing := [role for role in ROLES if not is_there(client, image_name(role, version))]:
            _build_all(make_builder(root, report), missing, version)
    except (DockerException, requests.RequestException, OSError, subprocess.TimeoutExpired) as e:
        raise ImageError(f"the images can't be built: {reason(e)}") from None
    return version


def ensure_test_image(client: docker.DockerClient, report: Report) -> str:
    """Make sure that the image of the project's own test tools is there; its name.

    Raises:
        ImageError: it can't be built.
    """
    root = inputs.project_root()
    parts = ("deploy/docker", "deploy/ansible", "requirements-dev.lock", "tests/e2e/browser")
    name = f"{TEST_IMAGE}:{inputs.content_hash(root, parts)[:12]}"
    try:
        if not is_there(client, name):
            builder = make_builder(root, report)
            build_base(builder, read_host())
            browser = root / "tests" / "e2e" / "browser"
            trees = {
                "Dockerfile": builder.recipes / "test" / "Dockerfile",
                "python": application.build_test_packages(root, builder.cache),
                "browser/node_modules": web.build_modules(root, "tests/e2e/browser", builder.cache),
                "browser/package.json": browser / "package.json",
                **{f"browser/{path.name}": path for path in browser.glob("*.mjs")},
                **role_files(
                    builder.roles, [role_directory(role) for role in ROLES], "packages", packages_only=True
                ),
            }
            docker_build(builder, "test", name, inputs.context_tar(trees), {"BUILD_BASE": BUILD_BASE})
    except (DockerException, requests.RequestException, OSError, subprocess.TimeoutExpired) as e:
        raise ImageError(f"the test image can't be built: {reason(e)}") from None
    return name


def _build_all(builder: Builder, roles: Iterable[Role], version: str) -> None:
    build_base(builder, read_host())
    site_packages = application.build_application(builder.root, builder.cache, version)
    revision = find_revision(builder.root, inputs.INPUTS)

    def build(role: Role) -> None:
        trees = {"dist/site-packages": site_packages}
        if role is Role.CONFERENCE_DEMO:
            trees["dist/web"] = web.build_page(builder.root, builder.cache)
        _build_role(builder, role, role_labels(role, version, revision), trees)

    run_side_by_side([partial(build, role) for role in roles], _SIDE_BY_SIDE)
    _forget_old(builder.client, version)


def build_base(builder: Builder, host: HostPackages) -> None:
    """Build the stage that every image is built from (``BUILD_BASE``); what has not changed is kept.

    Raises:
        ImageError: it can't be built.
    """
    base = ensure_base(builder.client, host, builder.cache, builder.report)
    trees = {
        "Dockerfile": builder.recipes / "base" / "Dockerfile",
        "bin": builder.recipes / "base" / "bin",
        "ansible-core": application.build_ansible(builder.root, builder.cache),
        "dependencies": application.build_dependencies(builder.root, builder.cache),
        **role_files(builder.roles, ["common"], "packages", packages_only=True),
    }
    context = inputs.context_tar(trees, host.files())
    docker_build(builder, "base", BUILD_BASE, context, {"BASE": base})


def _build_role(builder: Builder, role: Role, labels: Mapping[str, str], dist: Mapping[str, Path]) -> None:
    names = ["common", role_directory(role)]
    trees = {
        **{path.name: path for path in (builder.recipes / role).iterdir()},
        **role_files(builder.roles, names, "packages", packages_only=True),
        **role_files(builder.roles, names, "ansible", packages_only=False),
        **dist,
    }
    context = inputs.context_tar(trees)
    name = image_name(role, labels[LABEL_VERSION])
    docker_build(builder, role, name, context, {"BUILD_BASE": BUILD_BASE}, labels)


def role_directory(role: Role) -> str:
    """The name of the Ansible role of ``role``: those have no hyphens."""
    return str(role).replace("-", "_")


def role_files(roles: Path, names: Iterable[str], place: str, *, packages_only: bool) -> dict[str, Path]:
    """What a build context needs of the Ansible directory ``roles``: the play and the named roles.

    They go to ``place``. With ``packages_only``, the files, templates and services (``vars``) that a role
    installs are left out, so that a change of them does not make the packages be installed again.
    """
    found = {f"{place}/{name}": roles / name for name in ("ansible.cfg", "role.yml")}
    for name in names:
        role = roles / "roles" / name
        for part in sorted(role.iterdir()):
            if not (packages_only and part.name in {"files", "handlers", "templates", "vars"}):
                found[f"{place}/roles/{name}/{part.name}"] = part
    return found


def docker_build(
    builder: Builder,
    what: str,
    name: str,
    context: io.BytesIO,
    arguments: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Build one image, ``what`` to the user, as ``name``; its output is kept as a log.

    Raises:
        ImageError: a step fails; with the log's last lines.
        DockerException: the engine does not answer.
    """
    started = time.monotonic()
    log = builder.cache / f"{what}.log"
    builder.report(f"image {what}: building")
    proxies = proxy_arguments(os.environ)
    lines = builder.client.api.build(
        fileobj=context,
        custom_context=True,
        tag=name,
        buildargs={**proxies, **arguments},
        labels=dict(labels or {}),
        network_mode="host",
        rm=True,
        forcerm=True,
        decode=True,
    )
    error = _follow(lines, log)
    if error is not None:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ImageError(f"image {what}: {error}; the last lines of {log}:\n  {tail}")
    size = builder.client.images.get(name).attrs["Size"] / 1e6
    builder.report(f"image {what}: done in {time.monotonic() - started:.0f} s, {size:.0f} MB")


def proxy_arguments(environment: Mapping[str, str]) -> dict[str, str]:
    """The build arguments that lead to packages through a proxy; without one there are none.

    What is left to no proxy says nothing then, and any argument would make every step be built anew.
    """
    found = {key: environment[key] for key in _PROXIES if environment.get(key)}
    return found if any(not key.lower().startswith("no_") for key in found) else {}


def _follow(lines: Iterator[Any], log: Path) -> str | None:
    """Write the build's output to ``log``; the error that ended it, if one did."""
    error: str | None = None
    with log.open("w", encoding="utf-8") as output:
        for line in lines:
            if "stream" in line:
                output.write(line["stream"])
            if "error" in line:
                error = " ".join(str(line["error"]).split())
                output.write(f"{error}\n")
            output.flush()
    return error


def is_there(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image called ``name``."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _forget_old(client: docker.DockerClient, version: str) -> None:
    """Remove images of versions that are neither ``version``, nor any container's, nor new.

    A running stack makes its replacements from the version it was brought up with, so a version is kept as a
    whole; and one that was built a moment ago may be about to be used by somebody else.
    """
    containers = client.api.containers(all=True, filters={"label": LABEL_VERSION})
    kept = {version} | {container["Labels"][LABEL_VERSION] for container in containers}
    for image in client.api.images(filters={"label": LABEL_ROLE}):
        if image["Labels"].get(LABEL_VERSION) in kept or time.time() - image["Created"] < _NEW_S:
            continue
        for tag in image["RepoTags"] or ():
            if not tag.startswith("smd/"):  # somebody pulled it from a registry, and knows what for
                continue
            with contextlib.suppress(DockerException):  # in use, or another build was quicker
                client.api.remove_image(tag)


def remove_build_cache(client: docker.DockerClient) -> None:
    """Remove the base and build images; the next build begins from nothing."""
    for name in (BUILD_BASE, f"{BASE}:{base_tag()}"):
        try:
            client.images.remove(name)
        except ImageNotFound:
            continue
