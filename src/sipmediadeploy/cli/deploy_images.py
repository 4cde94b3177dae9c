"""Images of roles for ``smd deploy``: those that are missing in Glance are built by Packer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sipmediadeploy.cli import programs
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.images.inputs import INPUTS, ROLES
from sipmediadeploy.images.labels import find_revision
from sipmediadeploy.images.servers import write_application
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.findings import listed
from sipmediadeploy.providers.openstack.building import (
    Building,
    building_name,
    ensure_building,
    remove_building,
)
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.ensure import named
from sipmediadeploy.providers.openstack.errors import Missing
from sipmediadeploy.providers.openstack.foundation import roles_of
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.stack import OpenStack, Role, Stack

AT_A_TIME = 2
SOURCE_IMAGE = "debian-12"
_PLUGINS_SINCE = (1, 7)
"""The first Packer that has its builders in plugins, which ``packer init`` installs."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the user says of the servers on which images are built; None: it is found or made."""

    flavor: str | None = None
    network: str | None = None
    source_image: str = SOURCE_IMAGE
    apt_proxy: str | None = None
    """By which they reach Debian's packages: ``http://ADDRESS:PORT``."""

    def __post_init__(self) -> None:
        """Check what can be wrong before anything is made.

        Raises:
            CommandError: the proxy is no ``http://ADDRESS[:PORT]``.
        """
        if self.apt_proxy is not None and not re.fullmatch(
            r"http://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?/?", self.apt_proxy
        ):
            raise CommandError(f"--packer-apt-proxy: expected http://ADDRESS:PORT, not '{self.apt_proxy}'")


@dataclass(frozen=True, slots=True)
class Packer:
    """How Packer is run."""

    program: str
    root: Path
    """The checkout."""
    logs: Path
    environment: dict[str, str]
    """By which it finds the cloud."""

    def log(self, role: Role) -> Path:
        """Where the output of a role's build goes."""
        return self.logs / f"packer-{role}.log"


def ensure_role_images(
    cloud: Cloud, stack: Stack, version: str, options: BuildOptions, packer: Packer, report: Report
) -> None:
    """See to it that every role has its image of ``version``. Safe to repeat and to interrupt.

    Raises:
        CommandError: Packer is missing, or a build failed.
        ProviderError: the cloud refuses something.
    """
    settings = stack.openstack or OpenStack()
    lookup = Lookup(cloud, stack.name, settings, version)
    # Those that the stack file names are somebody else's to make.
    missing = missing_roles(lookup, [role for role in roles_of(stack) if role not in settings.images])
    if not missing:
        report(f"images of roles are there, version {version}")
        if named(cloud, "network", building_name(stack.name)):
            _clean_up(cloud, stack.name, report)  # of builds that were killed
        return
    report(f"images of {listed([str(role) for role in missing])} are missing, version {version}")
    _require(packer.program, missing, version)
    try:
        building = ensure_building(cloud, stack, options.network, options.flavor, options.source_image)
        building = replace(building, apt_proxy=options.apt_proxy or "")
        ansible = asyncio.run(_ensure_ansible(packer, report))
        # Builds side by side would both write it.
        write_application(packer.root, packer.root / ".cache" / "application", report)
        commit = find_revision(packer.root, INPUTS) or "uncommitted"
        asyncio.run(_build_all(packer, missing, version, commit, building, ansible, report))
    finally:
        _clean_up(cloud, stack.name, report)
    lookup.forget()
    if still := missing_roles(lookup, missing):
        logs = listed([str(packer.log(role)) for role in still])
        raise CommandError(f"Packer ended well, and images are not in Glance; its logs: {logs}")


def missing_roles(lookup: Lookup, roles: Sequence[Role]) -> list[Role]:
    """Those of ``roles`` that have no image, the one first whose build takes longest.

    Raises:
        ProviderError: that can't be read.
    """
    found = []
    for role in sorted(roles, key=ROLES.index):
        try:
            lookup.image(role)
        except Missing:
            found.append(role)
    return found


def packer_words(
    program: str, root: Path, role: Role, version: str, commit: str, building: Building, ansible: Path
) -> list[str]:
    """The command that builds the image of ``role``. It has no secret. Pure."""
    variables = {
        "role": str(role),
        "version": version,
        "commit": commit,
        "source_image": building.source_image,
        "flavor": building.flavor,
        "network": building.network,
        "floating_ip_network": building.external,
        "security_groups": json.dumps([building.security_group]),
        "ansible_playbook": str(ansible),
        "apt_proxy": building.apt_proxy,
    }
    given = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
    return [program, "build", "-color=false", *given, str(root / "deploy" / "packer")]


def _require(program: str, missing: Sequence[Role], version: str) -> None:
    if shutil.which(program) is None:
        images = listed([f"smd-{role}" for role in missing])
        raise CommandError(
            f"packer is not installed, and images are missing: {images}.\n"
            "Install it (apt-get install packer) and try again. Images that come from elsewhere are taken as "
            f"they are: upload them by these names, with the properties smd_role and smd_version={version}"
        )
    if shutil.which("ssh") is None:
        raise CommandError("ssh is not installed, by which images are built: apt-get install openssh-client")


async def _build_all(
    packer: Packer,
    roles: Sequence[Role],
    version: str,
    commit: str,
    building: Building,
    ansible: Path,
    report: Report,
) -> None:
    """Build the images, two side by side; when one fails, those that have begun are finished."""
    waiting, failed = list(roles), list[CommandError]()
    await _ensure_plugins(packer)

    async def work() -> None:
        while waiting and not failed:
            role, began = waiting.pop(0), time.monotonic()
            report(f"image of {role}: Packer builds it (log: {packer.log(role)})")
            words = packer_words(packer.program, packer.root, role, version, commit, building, ansible)
            try:
                await programs.run(words, packer.root, packer.environment, packer.log(role))
            except CommandError as e:
                report(f"image of {role}: failed")
                failed.append(e)
            else:
                report(f"image of {role}: built in {time.monotonic() - began:.0f} s")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_A_TIME):
            tasks.create_task(work())
    if failed:
        raise CommandError("\n".join(str(error) for error in failed))


async def _ensure_plugins(packer: Packer) -> None:
    """Have a current Packer install what Debian's has built in."""
    _, said, _ = await programs.read([packer.program, "version"], packer.root)
    found = re.search(r"v(\d+)\.(\d+)", said)
    if found is not None and (int(found[1]), int(found[2])) >= _PLUGINS_SINCE:
        plugins, log = packer.root / "deploy" / "packer" / "current", packer.logs / "packer-init.log"
        await programs.run([packer.program, "init", plugins], packer.root, packer.environment, log)


async def _ensure_ansible(packer: Packer, report: Report) -> Path:
    """The ``ansible-playbook`` of ``deploy/ansible/requirements.lock``, in an environment of its own."""
    lock, home = packer.root / "deploy" / "ansible" / "requirements.lock", packer.root / ".smd" / "ansible"
    mark, made_from = hashlib.sha256(lock.read_bytes()).hexdigest(), home / ".made-from"
    program = home / "bin" / "ansible-playbook"
    if program.exists() and made_from.exists() and made_from.read_text() == mark:
        return program
    report("Ansible: installing it into .smd/ansible")
    uv, log = [sys.executable, "-m", "uv"], packer.logs / "ansible.log"
    shutil.rmtree(home, ignore_errors=True)
    trust = {"UV_SYSTEM_CERTS": "1"}  # this host's certificate authorities, as for smd itself
    await programs.run([*uv, "venv", "--quiet", home], packer.root, trust, log)
    python = str(home / "bin" / "python")
    words = [*uv, "pip", "install", "--python", python, "--require-hashes", "-r", str(lock)]
    await programs.run(words, packer.root, trust, log)
    made_from.write_text(mark)
    return program


def _clean_up(cloud: Cloud, stack: str, report: Report) -> None:
    """What was made for builds goes; if it can't, the next deployment removes it."""
    try:
        remove_building(cloud, stack)
    except ProviderError as e:
        report(f"what was made for the builds is left ({building_name(stack)}), the next smd deploy: {e}")
