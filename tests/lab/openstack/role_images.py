"""Makes the images of the project's roles for the lab: what Packer makes on a cloud, built as Docker images.

The lab's instances reach no packages, so a role image is built beside it: the same Ansible roles with
systemd, in an image that is exported (``server/Dockerfile``).
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

from sipmediadeploy.images import inputs
from sipmediadeploy.images.build import (
    BUILD_BASE,
    Builder,
    build_base,
    docker_build,
    make_builder,
    role_directory,
    role_files,
)
from sipmediadeploy.images.host import read_host
from sipmediadeploy.images.inputs import ROLES, ImageError
from sipmediadeploy.images.labels import find_revision
from sipmediadeploy.images.parallel import run_side_by_side
from sipmediadeploy.images.servers import write_application
from sipmediadeploy.providers.docker.engine import reason
from sipmediadeploy.providers.openstack.images import ROLE_PROPERTY
from sipmediadeploy.providers.openstack.lookup import VERSION_PROPERTY
from sipmediadeploy.stack import Role
from tests.harness.openstack.settings import PROJECT, Lab, LabError
from tests.lab.openstack import host, images, rootfs

_COMMIT_PROPERTY = "smd_commit"
_MADE_FROM_PROPERTY = "smd_lab_made_from"
_RECIPE = Path(__file__).with_name("server")
_SIDE_BY_SIDE = 2
_EXPORT_LIMIT_S = 300


def ensure_role_images(lab: Lab, report: images.Report, roles: Sequence[Role] = ROLES) -> str:
    """Make the images of ``roles`` of this checkout (once) and upload them; their version.

    Raises:
        LabError: one can't be made, or the lab is not up.
    """
    host.running(lab)
    version = inputs.images_version(PROJECT)
    lab.images.mkdir(mode=0o700, exist_ok=True)
    try:
        missing = [role for role in roles if not raw_file(lab, role, version).exists()]
        if missing:
            _make(lab, report, missing, version)
    except ImageError as e:
        raise LabError(str(e)) from None
    except (DockerException, requests.RequestException, subprocess.SubprocessError) as e:
        raise LabError(f"the role images can't be made: {reason(e)}") from None
    commit = find_revision(PROJECT, inputs.INPUTS)
    for role in roles:
        raw = raw_file(lab, role, version)
        properties = {ROLE_PROPERTY: str(role), VERSION_PROPERTY: version, _COMMIT_PROPERTY: commit or "none"}
        images.upload(lab, report, raw, f"smd-{role}", {**properties, _MADE_FROM_PROPERTY: raw.name})
    return version


def parse_roles(words: Sequence[str]) -> Sequence[Role]:
    """The roles of these names; without names, all that have an image. Pure.

    Raises:
        LabError: there is no such role.
    """
    unknown = sorted(set(words) - {str(role) for role in ROLES})
    if unknown:
        raise LabError(f"there is no role {unknown[0]}; there are {', '.join(map(str, ROLES))}")
    return [role for role in ROLES if not words or str(role) in words]


def raw_file(lab: Lab, role: Role, version: str) -> Path:
    """Where the image of ``role`` is kept."""
    recipe = [Path(images.__file__).read_text(), *(one.read_text() for one in sorted(_RECIPE.iterdir()))]
    key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:8]
    return lab.images / f"smd-{role}-{version}-{key}.raw"


def _make(lab: Lab, report: images.Report, roles: Sequence[Role], version: str) -> None:
    for old in lab.images.glob("smd-*.raw"):
        if version not in old.name:
            old.unlink()
    builder = make_builder(PROJECT, report)
    application = builder.cache / "servers"
    write_application(PROJECT, application, report)
    build_base(builder, read_host())
    # The first one builds what all have in common.
    _make_one(lab, builder, application, version, roles[0])
    rest = [partial(_make_one, lab, builder, application, version, role) for role in roles[1:]]
    run_side_by_side(rest, _SIDE_BY_SIDE)


def _make_one(lab: Lab, builder: Builder, application: Path, version: str, role: Role) -> None:
    name = f"smd/lab-server-{role}:latest"
    ansible = ["common", role_directory(role)]
    trees = {
        "Dockerfile": _RECIPE / "Dockerfile",
        "application": application,
        **role_files(builder.roles, ansible, "packages", packages_only=True),
        **role_files(builder.roles, ansible, "ansible", packages_only=False),
    }
    arguments = {
        "BUILD_BASE": BUILD_BASE,
        "PACKAGES": " ".join(images.PACKAGES),
        "ROLE": role_directory(role),
    }
    docker_build(builder, f"lab-{role}", name, inputs.context_tar(trees), arguments)
    with tempfile.TemporaryDirectory(dir=lab.images) as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        _export(builder.client, name, root)
        images.prepare_server(root)
        images.make_raw(lab, root, raw_file(lab, role, version))
        rootfs.remove_tree(root)


def _export(client: docker.DockerClient, image: str, root: Path) -> None:
    """Unpack the file system of an image into the directory ``root``."""
    container = client.api.create_container(image)["Id"]
    try:
        unpack = ["tar", "-xpf", "-", "-C", str(root), "--numeric-owner", "--xattrs-include=*"]
        with subprocess.Popen(unpack, stdin=subprocess.PIPE) as tar:
            assert tar.stdin is not None
            for chunk in client.api.export(container):
                tar.stdin.write(chunk)
            tar.stdin.close()
            if tar.wait(timeout=_EXPORT_LIMIT_S):
                raise LabError(f"{image} can't be unpacked into {root}")
    finally:
        client.api.remove_container(container)
    # Docker's own mark: systemd would think that it runs in Docker.
    (root / ".dockerenv").unlink(missing_ok=True)
