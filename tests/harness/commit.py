"""The commit of this checkout, by which a run of the tests chooses what it leaves to other runs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.harness.running import ROOT


def read_commit() -> str:
    """The commit's hash; zeros where there is none."""
    done = _git("rev-parse", "HEAD")
    return done.stdout.strip() if done.returncode == 0 else "0" * 40


def has_just_changed(paths: Sequence[str]) -> bool | None:
    """Whether files under ``paths`` are others than in the commit before the last one.

    None: that is not known, as in a shallow clone.
    """
    return {0: False, 1: True}.get(_git("diff", "--quiet", "HEAD~1", "--", *paths).returncode)


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
