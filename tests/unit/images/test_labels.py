"""The labels of images: what a stranger learns from one, and that no commit is claimed wrongly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sipmediadeploy.images.labels import find_revision, role_labels
from sipmediadeploy.stack import Role


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(["git", "-C", root, *who, *words], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("a")
    (tmp_path / "README").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def test_an_image_tells_its_role_version_and_commit() -> None:
    labels = role_labels(Role.COTURN, "0.1.0-abc", "f" * 40)
    assert labels["smd.image"] == "coturn"
    assert labels["smd.version"] == labels["org.opencontainers.image.version"] == "0.1.0-abc"
    assert labels["org.opencontainers.image.revision"] == "f" * 40
    assert "coturn" in labels["org.opencontainers.image.title"]


def test_an_image_of_uncommitted_work_claims_no_commit() -> None:
    assert "org.opencontainers.image.revision" not in role_labels(Role.COTURN, "0.1.0-abc", None)


def test_labels_have_no_time_or_every_build_would_be_a_new_image() -> None:
    assert not any("created" in key for key in role_labels(Role.COTURN, "0.1.0-abc", None))


def test_the_revision_is_the_commit_that_last_changed_an_input(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD")
    assert find_revision(checkout, ["src", "lock"]) == first
    (checkout / "README").write_text("2")
    assert find_revision(checkout, ["src", "lock"]) == first
    git(checkout, "commit", "-qam", "two")
    assert find_revision(checkout, ["src", "lock"]) == first
    (checkout / "src" / "a.py").write_text("b")
    git(checkout, "commit", "-qam", "three")
    assert find_revision(checkout, ["src", "lock"]) == git(checkout, "rev-parse", "HEAD") != first


def test_uncommitted_inputs_have_no_revision(checkout: Path) -> None:
    (checkout / "src" / "new.py").write_text("n")
    assert find_revision(checkout, ["src"]) is None
    (checkout / "src" / "new.py").unlink()
    (checkout / "src" / "a.py").write_text("b")
    assert find_revision(checkout, ["src"]) is None


def test_a_directory_without_git_has_no_revision(tmp_path: Path) -> None:
    assert find_revision(tmp_path, ["src"]) is None
