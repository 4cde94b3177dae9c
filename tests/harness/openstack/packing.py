"""Whether Packer builds images of roles in this run of the tests: it takes minutes and seldom tells anything.

They are due when what they are made by (:data:`RECIPE`) has changed since it was last proven on this machine;
where nothing is known of earlier runs, when the last commit changed it. ``make test-long`` always has them.
Without them the images of all roles are exported from Docker.

``python -m tests.harness.openstack.packing`` says what is decided; the exit code is 0 when builds are due.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sipmediadeploy.images.inputs import ROLES, content_hash
from sipmediadeploy.stack import Role
from tests.harness.commit import has_just_changed
from tests.harness.running import ROOT

RECIPE = (
    "deploy/ansible",
    "deploy/packer",
    "src/sipmediadeploy/cli/deploy_images.py",
    "src/sipmediadeploy/images/servers.py",
    "src/sipmediadeploy/providers/openstack/building.py",
)
"""What builds by Packer are made by. The product itself, which is in the images, changes with each commit:
that it runs there is proven with the images from Docker, which the same Ansible roles make.
"""
_PACKED = (Role.KAMAILIO, Role.CONFERENCE_DEMO)
_PROGRAMS = ("packer", "ssh", "tinyproxy")


@dataclass(frozen=True, slots=True)
class Packing:
    """What is decided."""

    is_due: bool
    why: str
    mark: Path
    """Where it is kept that builds by this recipe were proven."""

    @property
    def packed(self) -> tuple[Role, ...]:
        """The roles whose images Packer builds."""
        return _PACKED if self.is_due and not self.lacking() else ()

    @property
    def exported(self) -> tuple[Role, ...]:
        """The roles whose images come from Docker."""
        return tuple(role for role in ROLES if role not in self.packed)

    def lacking(self) -> list[str]:
        """The programs that are missing; Ubuntu 24.04 has no package of Packer."""
        return [name for name in _PROGRAMS if shutil.which(name) is None]

    def remember(self) -> None:
        """What is built by this recipe is as it should be."""
        self.mark.parent.mkdir(parents=True, exist_ok=True)
        self.mark.touch()


def decide(recipe: str, proven: Collection[str], just_changed: bool | None, always: bool) -> tuple[bool, str]:
    """Whether builds are due by the ``recipe`` of this hash, and why. Pure.

    ``proven``: the hashes of those that were proven on this machine. ``just_changed``: see
    :func:`tests.harness.commit.has_just_changed`.
    """
    if always:
        return True, "all tests are run"
    if recipe in proven:
        return False, "what they are made by is as when it was last proven on this machine"
    if proven:
        return True, "what they are made by is not what was last proven on this machine"
    unknown = "nothing was proven on this machine yet, and "
    if just_changed:
        return True, f"{unknown}the last commit or a change since then is about what they are made by"
    if just_changed is None:
        return False, f"{unknown}the commit before the last one is not there to compare with"
    return False, f"{unknown}the last commit does not change what they are made by"


def read_packing() -> Packing:
    """What is decided for this checkout and machine."""
    recipe = content_hash(ROOT, RECIPE)[:16]
    marks = _cache() / "packer"
    proven = [one.name for one in marks.iterdir()] if marks.is_dir() else []
    just_changed = has_just_changed(RECIPE) if not proven else None
    is_due, why = decide(recipe, proven, just_changed, os.environ.get("SMD_TEST_LONG") == "yes")
    return Packing(is_due, why, marks / recipe)


def _cache() -> Path:
    default = "/var/cache/sipmediadeploy" if os.geteuid() == 0 else "~/.cache/sipmediadeploy"
    return Path(os.environ.get("SMD_CACHE_DIR") or default).expanduser()


if __name__ == "__main__":
    packing = read_packing()
    builds = "Packer builds images" if packing.is_due else "all images come from Docker, and none from Packer"
    print(f"{builds}: {packing.why}")
    sys.exit(0 if packing.is_due else 1)
