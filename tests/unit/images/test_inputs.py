"""The images' version follows their inputs, and a build context is the same whenever its content is."""

from __future__ import annotations

import tarfile
from pathlib import Path

from sipmediadeploy.images.build import role_files
from sipmediadeploy.images.inputs import content_hash, context_tar, images_version, project_root


def make_tree(root: Path) -> None:
    (root / "src" / "__pycache__").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a")
    (root / "src" / "__pycache__" / "a.pyc").write_text("x")
    (root / "lock").write_text("1")


def test_the_hash_follows_content_names_and_modes_and_nothing_else(tmp_path: Path) -> None:
    make_tree(tmp_path)
    seen = [content_hash(tmp_path, ["src", "lock"])]

    (tmp_path / "src" / "__pycache__" / "b.pyc").write_text("y")
    (tmp_path / "src" / "a.py").touch()
    assert content_hash(tmp_path, ["src", "lock"]) == seen[0]

    (tmp_path / "src" / "a.py").write_text("b")
    seen.append(content_hash(tmp_path, ["src", "lock"]))
    (tmp_path / "src" / "a.py").rename(tmp_path / "src" / "b.py")
    seen.append(content_hash(tmp_path, ["src", "lock"]))
    (tmp_path / "src" / "b.py").chmod(0o755)
    seen.append(content_hash(tmp_path, ["src", "lock"]))
    seen.append(content_hash(tmp_path, ["src", "lock"], "aarch64"))
    assert len(set(seen)) == len(seen)


def test_what_is_not_there_is_no_input(tmp_path: Path) -> None:
    make_tree(tmp_path)
    assert content_hash(tmp_path, ["src", "web"]) == content_hash(tmp_path, ["src"])


def test_a_context_tells_nothing_of_the_machine_that_made_it(tmp_path: Path) -> None:
    make_tree(tmp_path)
    context = context_tar({"app": tmp_path / "src"}, {"host/apt.conf": "x"})
    with tarfile.open(fileobj=context) as tar:
        members = {info.name: info for info in tar.getmembers()}
    assert set(members) == {"app", "app/a.py", "host/apt.conf"}
    assert all((info.uid, info.gid, info.mtime) == (0, 0, 0) for info in members.values())


def test_the_version_is_a_valid_tag() -> None:
    version = images_version(project_root())
    assert version == images_version(project_root())
    assert len(version) < 60
    assert set(version) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")


def test_packages_do_not_depend_on_the_files_that_a_role_installs() -> None:
    roles = project_root() / "deploy" / "ansible"
    packages = role_files(roles, ["common", "kamailio"], "packages", packages_only=True)
    everything = role_files(roles, ["common", "kamailio"], "ansible", packages_only=False)
    assert "packages/roles/kamailio/tasks" in packages
    assert not any(place.endswith(("/files", "/handlers", "/templates", "/vars")) for place in packages)
    assert "ansible/roles/common/files" in everything
    assert not any("gateway" in place for place in everything)
