"""Every promise that is in force is tried by a simulated and by a real test of `make test`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SIMULATED = ("tests/simulation",)
REAL = ("tests/integration", "tests/e2e", "tests/lab/stack", "tests/lab/provider")
LONG = ("tests/integration/servers", "tests/integration/packer", "tests/e2e/jitsi")
"""Of those, what ``make test`` leaves to ``make test-long``, beside single tests with the mark ``long``."""
LATER = {7, 8, 9}
"""The only ones that may be listed as not yet in force."""


def promised() -> set[int]:
    """The numbers in docs/promises.md."""
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)}


def not_yet_in_force() -> set[int]:
    """The numbers that the table of docs/testing.md lists so."""
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert {int(number) for number, _ in rows} == promised(), "the table has a row for each promise"
    return {int(number) for number, said in rows if "not yet in force" in said}


def proven(directories: tuple[str, ...]) -> set[int]:
    """The promises of all tests in these directories that ``make test`` runs."""
    files = {file for directory in directories for file in (ROOT / directory).rglob("test_*.py")}
    files -= {file for directory in LONG for file in (ROOT / directory).rglob("test_*.py")}
    assert files, f"there are no tests in {directories}"
    return {number for file in files for number in marks(ast.parse(file.read_text(encoding="utf-8")))}


def marks(module: ast.Module) -> Iterator[int]:
    """The numbers of all promise marks on tests of a module, but for those that are marked long."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            if "pytest.mark.long" in map(ast.unparse, node.decorator_list):
                continue
            for decorator in node.decorator_list:
                for call in ast.walk(decorator):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.promise":
                        yield from (int(ast.literal_eval(argument)) for argument in call.args)


def test_every_promise_in_force_has_a_simulated_and_a_real_test() -> None:
    in_force = promised() - not_yet_in_force()
    assert in_force - proven(SIMULATED) == set(), "these have no simulated test with their mark"
    assert in_force - proven(REAL) == set(), "these have no real test in `make test` with their mark"


def test_only_promises_of_later_work_are_not_yet_in_force() -> None:
    assert not_yet_in_force() <= LATER


def test_a_mark_names_a_promise() -> None:
    assert proven((*SIMULATED, *REAL)) <= promised()


def test_marks_are_found_on_tests_of_all_kinds() -> None:
    text = """
@pytest.mark.promise(1, 2)
def test_one(): ...
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.promise(3))])
async def test_two(x): ...
@pytest.mark.promise(9)
def no_test(): ...
@pytest.mark.long
@pytest.mark.promise(8)
def test_three(): ...
"""
    assert set(marks(ast.parse(text))) == {1, 2, 3}
