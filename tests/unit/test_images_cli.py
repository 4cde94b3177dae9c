"""``smd images``: what it says when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.ports import free_port
from tests.unit.test_cli import assert_user_error, smd


@pytest.mark.parametrize("command", ["push", "list"])
def test_a_registrys_name_is_checked_before_anything_is_done(tmp_path: Path, command: str) -> None:
    assert_user_error(smd(tmp_path, "images", command, "https://registry.test/x"), "leave https:// out")


@pytest.mark.parametrize("words", [("sbom", "gatewy"), ("push", "registry.test", "--role", "gatewy")])
def test_a_role_that_is_none_is_refused_with_those_that_are(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert_user_error(smd(tmp_path, "images", *words), "gatewy", "gateway, conference-demo, kamailio")


@pytest.mark.parametrize("words", [("build",), ("push", "registry.test"), ("list",), ("sbom", "coturn")])
def test_without_an_engine_the_user_is_told_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert_user_error(smd(tmp_path, "images", *words), "the Docker Engine does not answer")


def test_a_registry_can_be_listed_where_no_engine_is(tmp_path: Path) -> None:
    port = free_port()
    assert_user_error(
        smd(tmp_path, "images", "list", f"127.0.0.1:{port}"), f"registry 127.0.0.1:{port} can't be reached"
    )


def test_pruning_without_credentials_of_a_cloud_says_what_to_set(tmp_path: Path) -> None:
    result = smd(tmp_path, "images", "prune", HOME=str(tmp_path))
    assert_user_error(result, "the cloud's credentials", "clouds.yaml")
