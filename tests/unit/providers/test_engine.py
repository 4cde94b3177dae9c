"""An engine that can't be used is named with what to do about it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import engine


def test_an_engine_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ProviderError, match=f"does not answer at unix://{tmp_path}/none.sock"):
        engine.ensure_engine()


def test_a_host_without_the_engine_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(timeout_s: int = 0) -> None:
        raise ProviderError("not there")

    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine, "connect", refuse)
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(ProviderError, match=r"not installed.*apt-get install docker\.io"):
        engine.ensure_engine()


async def test_a_call_that_takes_too_long_is_an_error_that_names_it() -> None:
    with pytest.raises(ProviderError, match=r"inventory: no answer .* within 0 s"):
        await engine.in_thread("inventory", 0.01, lambda: time.sleep(0.2))


async def test_the_engines_own_words_are_in_the_error_on_one_line() -> None:
    def fail() -> None:
        raise OSError("connection\nreset")

    with pytest.raises(ProviderError, match=r"^deleting x: connection reset$"):
        await engine.in_thread("deleting x", 1.0, fail)
