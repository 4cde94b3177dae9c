"""The labels of role images: the project's own, and the annotation keys of the OCI image specification.

There is none for the time of a build: an image tells it anyway, and the label would make every build
a new image.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from sipmediadeploy.stack import Role

LABEL_ROLE = "smd.image"
LABEL_VERSION = "smd.version"
OCI_TITLE = "org.opencontainers.image.title"
OCI_VERSION = "org.opencontainers.image.version"
OCI_REVISION = "org.opencontainers.image.revision"
_GIT_TIMEOUT_S = 30


def role_labels(role: Role, version: str, revision: str | None) -> dict[str, str]:
    """The labels of the image of ``role`` in ``version``; without a ``revision`` it claims none."""
    labels = {
        LABEL_ROLE: str(role),
        LABEL_VERSION: version,
        OCI_TITLE: f"SIPMediaDeploy {role}",
        OCI_VERSION: version,
    }
    return labels if revision is None else {**labels, OCI_REVISION: revision}


def find_revision(root: Path, inputs: Iterable[str]) -> str | None:
    """The commit (hexadecimal, in full) that last changed what is under ``inputs``, each below ``root``.

    It is the same in every later commit that leaves the inputs alone, as the images' version is.
    ``None``: something under them is not committed, or this is no git checkout.
    """
    names = list(inputs)
    if _git(root, "status", "--porcelain", "--untracked-files=all", "--", *names) != "":
        return None
    return _git(root, "log", "-1", "--format=%H", "--", *names) or None


def _git(root: Path, *words: str) -> str | None:
    """What git prints; ``None``: it can't answer."""
    # A checkout that another user owns is read as well: its programs run here already.
    command = ["git", "-C", str(root), "-c", f"safe.directory={root}", *words]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
