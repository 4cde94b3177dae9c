"""Terraform (or OpenTofu) for the tests, where it is installed and its OpenStack provider can be had.

``SMD_TERRAFORM_PROVIDERS`` names a filesystem mirror with it. ``python -m tests.harness.terraform DIRECTORY``
makes one where there is Go: it prints the directory, or nothing and why not to standard error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sipmediadeploy.images.cache import open_cache

TOOL = shutil.which("terraform") or shutil.which("tofu") or ""
PROVIDERS = os.environ.get("SMD_TERRAFORM_PROVIDERS", "")
WHY_NOT = "needs terraform or tofu, and SMD_TERRAFORM_PROVIDERS: a filesystem mirror with the provider"
SOURCES = Path(__file__).parents[2] / "deploy" / "terraform"
_VERSION = "3.4.0"
_MODULE = "github.com/terraform-provider-openstack/terraform-provider-openstack/v3"
_BUILD_S = 600.0
"""130 s were measured on two cores that had other work, with nothing of it in Go's caches."""


def usable() -> bool:
    """Whether the module can be applied here."""
    return bool(TOOL and PROVIDERS)


def prepare(directory: Path) -> dict[str, str]:
    """Copy module and example to ``directory``, with no state, and let the provider be found.

    Returns:
        The environment variables that Terraform needs for it.
    """
    not_these = shutil.ignore_patterns(".terraform*", "*.tfstate*", "effective-stack.json")
    shutil.copytree(SOURCES, directory, ignore=not_these)
    return configure(directory) | {"TF_INPUT": "0"}


def configure(directory: Path) -> dict[str, str]:
    """Let the provider be found, by a file in ``directory``; the environment variables for that."""
    configuration = directory / "terraform.rc"
    configuration.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{PROVIDERS}"\n  }}\n}}\n'
    )
    return {"TF_CLI_CONFIG_FILE": str(configuration), "CHECKPOINT_DISABLE": "1"}


def make_mirror(directory: Path) -> str:
    """Build the provider from its released sources, by Go, unless that was done before or it is in the cache.

    Returns:
        Why it could not be; empty: it is there.
    """
    if not TOOL:
        return "neither terraform nor tofu is on the PATH"
    platform = re.search(r'"platform": "(\w+)"', _said(TOOL, "version", "-json"))
    address = re.search(
        r"provider\[(\S+/terraform-provider-openstack/openstack)\]",
        _said(TOOL, f"-chdir={SOURCES / 'openstack'}", "providers"),
    )
    if address is None or platform is None:
        return "terraform does not say which provider it needs"
    program = directory / address[1] / _VERSION / platform[1] / f"terraform-provider-openstack_v{_VERSION}"
    shared, name = open_cache(), f"terraform-provider-openstack-{_VERSION}-{platform[1]}"
    if program.exists() or shared.take(name, program):
        return ""
    go = shutil.which("go")
    if go is None:
        return "its OpenStack provider is not at hand, nor is Go to build it (SMD_TERRAFORM_PROVIDERS)"
    building = directory / "building"
    building.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [go, "install", f"{_MODULE}@v{_VERSION}"],
            env=os.environ | {"GOBIN": str(building.absolute())},
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILD_S,
        )
    except subprocess.TimeoutExpired:
        return f"go install takes longer than {_BUILD_S:.0f} s"
    if done.returncode != 0:
        return f"go install: {' '.join(done.stderr.splitlines()[-1:])}"
    program.parent.mkdir(parents=True, exist_ok=True)
    (building / "terraform-provider-openstack").rename(program)
    shared.keep(name, program)
    return ""


def _said(*words: str) -> str:
    """What a program printed; nothing when it takes longer than a busy machine needs."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
    except subprocess.TimeoutExpired:
        return ""


if __name__ == "__main__":
    mirror = Path(sys.argv[1]).absolute()
    if why := make_mirror(mirror):
        print(f"tests of Terraform are skipped: {why}", file=sys.stderr)
    else:
        print(mirror)
