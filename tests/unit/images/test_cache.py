"""A cache that is missing, damaged, full or somebody else's costs time and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import pytest

from sipmediadeploy.images import cache as module
from sipmediadeploy.images.cache import Cache, cache_directory, open_cache


def make_tree(directory: Path, size: int = 10) -> Path:
    (directory / "below").mkdir(parents=True)
    (directory / "program").write_bytes(b"x" * size)
    (directory / "program").chmod(0o755)
    (directory / "below" / "link").symlink_to("../program")
    return directory


def open_in(directory: Path) -> Cache:
    return open_cache({"SMD_CACHE_DIR": str(directory)})


def the_content(cache: Cache) -> Path:
    assert cache.directory is not None
    (found,) = cache.directory.glob("*/content")
    return found


def names(cache: Cache) -> list[str]:
    assert cache.directory is not None
    return sorted(path.name.split("-")[0] for path in cache.directory.iterdir())


def test_a_directory_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = open_in(tmp_path / "cache")
    cache.keep("tree", make_tree(tmp_path / "source"))
    assert cache.take("tree", tmp_path / "new" / "target")
    target = tmp_path / "new" / "target"
    assert os.access(target / "program", os.X_OK)
    assert (target / "below" / "link").readlink() == Path("../program")
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = open_in(tmp_path / "cache")
    (tmp_path / "file").write_text("text")
    (tmp_path / "file").chmod(0o755)
    cache.keep("file", tmp_path / "file")
    assert cache.take("file", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "text"
    assert os.access(tmp_path / "target", os.X_OK)


def test_what_is_not_kept_is_not_there(tmp_path: Path) -> None:
    assert not open_in(tmp_path / "cache").take("tree", tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", ["file", "tree"])
@pytest.mark.parametrize("damage", ["changed", "cut", "empty", "no about", "about is no JSON", "no content"])
def test_damaged_content_is_never_used(tmp_path: Path, kind: str, damage: str) -> None:
    cache = open_in(tmp_path / "cache")
    source = make_tree(tmp_path / "source", size=100_000)
    cache.keep("one", source if kind == "tree" else source / "program")
    content = the_content(cache)
    about = content.with_name("about.json")
    if damage == "changed":
        data = bytearray(content.read_bytes())
        data[len(data) // 2] ^= 1
        content.write_bytes(bytes(data))
    elif damage == "cut":
        os.truncate(content, 5000)
    elif damage == "empty":
        os.truncate(content, 0)
    elif damage == "no about":
        about.unlink()
    elif damage == "about is no JSON":
        about.write_text("{")
    else:
        content.unlink()
    target = tmp_path / "target"
    assert not cache.take("one", target)
    assert not target.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "source"]
    # It is made again, and kept again.
    cache.keep("one", source)
    assert cache.take("one", target)


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    cache = open_in(tmp_path / "cache")
    cache.keep("one", make_tree(tmp_path / "source"))
    about = the_content(cache).with_name("about.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "sha256": "0" * 64}))
    assert not cache.take("one", tmp_path / "target")


def test_what_was_used_longest_ago_gives_way(tmp_path: Path) -> None:
    cache = Cache(open_in(tmp_path / "cache").directory, limit=250)
    assert cache.directory is not None
    for age, name in ((30, "old"), (20, "older"), (10, "new")):
        (tmp_path / name).write_bytes(b"x" * 80)
        cache.keep(name, tmp_path / name)
        (about,) = cache.directory.glob(f"{name}-*/about.json")
        os.utime(about, (time.time() - age,) * 2)
    assert cache.take("old", tmp_path / "used")
    (tmp_path / "newest").write_bytes(b"x" * 80)
    cache.keep("newest", tmp_path / "newest")
    assert names(cache) == ["new", "newest", "old"]


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(open_in(tmp_path / "cache").directory, limit=100)
    cache.keep("one", make_tree(tmp_path / "source", size=101))
    assert names(cache) == []


def test_the_last_room_on_a_disk_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12, 10**9))
    cache = open_in(tmp_path / "cache")
    cache.keep("one", make_tree(tmp_path / "source"))
    assert names(cache) == []


def test_a_disk_that_is_full_meanwhile_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> str:
        raise OSError(28, "No space left on device")

    cache = open_in(tmp_path / "cache")
    source = make_tree(tmp_path / "source")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy", fail)
        cache.keep("one", source)
    assert names(cache) == []
    cache.keep("one", source)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy", fail)
        assert not cache.take("one", tmp_path / "target")
    assert cache.take("one", tmp_path / "target")


def test_a_cache_that_can_not_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_words: object) -> None:
        raise OSError(30, "Read-only file system")

    cache = open_in(tmp_path / "cache")
    cache.keep("one", make_tree(tmp_path / "source"))
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    cache.keep("two", tmp_path / "source")
    monkeypatch.undo()
    assert names(cache) == ["one"]
    assert cache.take("one", tmp_path / "target")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_cache_that_others_may_write_to_is_not_used(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "cache"
    open_in(directory).keep("one", make_tree(tmp_path / "source"))
    directory.chmod(mode)
    assert open_in(directory) == Cache(None)
    assert not open_in(directory).take("one", tmp_path / "target")
    open_in(directory).keep("two", tmp_path / "source")
    assert len(list(directory.iterdir())) == 1


def test_a_cache_that_another_user_owns_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert open_in(tmp_path) == Cache(None)


def test_a_cache_that_can_not_be_made_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert open_in(tmp_path / "file" / "cache") == Cache(None)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    open_in(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_an_entry_that_is_too_old_is_not_used(tmp_path: Path) -> None:
    cache = open_in(tmp_path / "cache")
    cache.keep("one", make_tree(tmp_path / "source"))
    os.utime(the_content(cache), (time.time() - 100,) * 2)
    assert not cache.take("one", tmp_path / "target", max_age_s=50)
    assert cache.take("one", tmp_path / "target", max_age_s=200)


def test_the_environment_says_where_it_is_and_how_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_directory({"SMD_CACHE_DIR": "/somewhere"}) == Path("/somewhere")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache_directory({"XDG_CACHE_HOME": "/home/me/cache"}) == Path("/var/cache/sipmediadeploy")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache_directory({"XDG_CACHE_HOME": "/home/me/cache"}) == Path("/home/me/cache/sipmediadeploy")
    monkeypatch.undo()
    variables = {"SMD_CACHE_DIR": str(tmp_path / "cache"), "SMD_CACHE_GB": "0.5"}
    assert open_cache(variables).limit == 500_000_000
    assert open_cache({**variables, "SMD_CACHE_GB": "much"}).limit == 8_000_000_000
