"""What one checkout made is not made again by the next one; a damaged cache only costs that."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from sipmediadeploy.images import application, base
from sipmediadeploy.images.host import HostPackages

HOST = HostPackages("", "", "")


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMD_CACHE_DIR", str(tmp_path / "shared"))
    return tmp_path / "shared"


class Engine:
    """An engine without images, which notes what is imported."""

    def __init__(self) -> None:
        self.images = self.api = self
        self.imported: list[bytes] = []

    def get(self, name: str) -> None:
        raise ImageNotFound(name)

    def import_image(self, path: str, **_options: object) -> None:
        self.imported.append(Path(path).read_bytes())


@pytest.fixture
def mmdebstrap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for mmdebstrap: each run makes another file, and is noted."""
    runs: list[str] = []

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[bytes]:
        runs.append(command[0])
        target = next(word for word in command if word.endswith("base.tar"))
        Path(target).write_text(f"Debian {len(runs)}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(base, "_pull", lambda *_arguments: False)
    monkeypatch.setattr(base.shutil, "which", lambda _name: "/usr/bin/mmdebstrap")  # type: ignore[attr-defined]
    monkeypatch.setattr(base.subprocess, "run", run)  # type: ignore[attr-defined]
    return runs


def make_base(work: Path) -> bytes:
    engine: Any = Engine()
    work.mkdir(exist_ok=True)
    base.ensure_base(engine, HOST, work, lambda _line: None)
    (imported,) = engine.imported
    return bytes(imported)


def test_the_base_is_made_once_for_all_checkouts(tmp_path: Path, mmdebstrap: list[str]) -> None:
    assert make_base(tmp_path / "one") == make_base(tmp_path / "two") == b"Debian 1"
    assert mmdebstrap == ["mmdebstrap"]


def test_a_damaged_base_is_made_again(tmp_path: Path, shared: Path, mmdebstrap: list[str]) -> None:
    make_base(tmp_path / "one")
    (content,) = shared.glob("*/content")
    content.write_text("Debian!!")
    assert make_base(tmp_path / "two") == b"Debian 2"
    assert make_base(tmp_path / "three") == b"Debian 2"


def test_without_a_cache_the_base_is_made_each_time(
    tmp_path: Path, mmdebstrap: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SMD_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert [make_base(tmp_path / "one"), make_base(tmp_path / "two")] == [b"Debian 1", b"Debian 2"]


def test_locked_packages_are_installed_once_for_all_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []

    def uv(what: str, *words: str) -> None:
        installed.append(what)
        (Path(words[words.index("--target") + 1]) / "package.py").write_text("1")

    monkeypatch.setattr(application, "_uv", uv)
    (tmp_path / "deploy" / "ansible").mkdir(parents=True)
    lock = tmp_path / "deploy" / "ansible" / "requirements.lock"
    lock.write_text("one==1")
    for checkout in ("one", "two"):
        found = application.build_ansible(tmp_path, tmp_path / checkout)
        assert (found / "package.py").read_text() == "1"
    lock.write_text("one==2")
    application.build_ansible(tmp_path, tmp_path / "one")
    assert len(installed) == 2
