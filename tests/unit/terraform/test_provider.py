"""The provider for tests of Terraform is built once for all checkouts of a machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.harness import terraform

ADDRESS = "registry.example.org/terraform-provider-openstack/openstack"


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each build; terraform and Go are programs that do the least of theirs."""
    log, programs = tmp_path / "built", tmp_path / "programs"
    programs.mkdir()
    write_program(
        programs / "terraform",
        f"""[ "$1" != version ] || exec echo '"platform": "linux_amd64",'\necho 'provider[{ADDRESS}]'""",
    )
    provider = "$GOBIN/terraform-provider-openstack"
    write_program(programs / "go", f"echo built >>{log}; echo provider >{provider}; chmod +x {provider}")
    monkeypatch.setattr(terraform, "TOOL", str(programs / "terraform"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SMD_CACHE_DIR", str(tmp_path / "cache"))
    return log


def provider(mirror: Path) -> Path:
    (found,) = (mirror / ADDRESS).glob("*/linux_amd64/terraform-provider-openstack_v*")
    return found


def test_another_checkout_takes_it_from_the_cache(tmp_path: Path, built: Path) -> None:
    for checkout in ("one", "two"):
        assert terraform.make_mirror(tmp_path / checkout) == ""
        assert provider(tmp_path / checkout).read_text() == "provider\n"
        assert provider(tmp_path / checkout).stat().st_mode & stat.S_IXUSR
    assert built.read_text() == "built\n"


def test_a_damaged_one_is_never_run(tmp_path: Path, built: Path) -> None:
    terraform.make_mirror(tmp_path / "one")
    (content,) = (tmp_path / "cache").glob("*/content")
    content.write_text("another\n")
    assert terraform.make_mirror(tmp_path / "two") == ""
    assert provider(tmp_path / "two").read_text() == "provider\n"
    assert built.read_text() == "built\nbuilt\n"
