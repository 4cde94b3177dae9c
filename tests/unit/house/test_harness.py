"""Who may import what of the tests: figures and shared tools do not hang on a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_LAB = "tests.lab.openstack"
"""The lab is a program of its own: it brings an OpenStack up."""


def imported(file: Path) -> Iterator[str]:
    """The full names of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not used in this project"
            yield from (f"{node.module}.{one.name}" for one in node.names)


def of_tests(files: Iterator[Path]) -> set[tuple[str, str]]:
    """Each file that imports something of ``tests``, and what."""
    return {
        (str(file.relative_to(ROOT)), name)
        for file in files
        for name in imported(file)
        if name.split(".")[0] == "tests"
    }


@pytest.mark.parametrize("directory", ["benchmarks", "tests/harness"])
def test_nothing_but_the_harness_is_imported_by(directory: str) -> None:
    allowed = ("tests.harness.",) if directory == "benchmarks" else ("tests.harness.", f"{_LAB}.")
    found = of_tests((ROOT / directory).rglob("*.py"))
    assert found, "the test looks at the wrong place"
    assert not {one for one in found if not one[1].startswith(allowed) or "conftest" in one[1]}


def test_a_test_module_is_imported_by_no_part_of_the_harness() -> None:
    found = of_tests((ROOT / "tests" / "harness").rglob("*.py"))
    assert not {one for one in found if any(part.startswith("test_") for part in one[1].split("."))}


def test_the_harness_has_no_tests() -> None:
    assert not list((ROOT / "tests" / "harness").rglob("test_*.py"))
