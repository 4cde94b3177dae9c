"""The line that ends all test runs, and what comes before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import summary

_RESULTS = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="assert 1&#10;  == 2">long</failure></testcase>
<testcase classname="b" name="broken"><error message="failed on setup"/></testcase>
<testcase classname="b" name="left out"><skipped message="no lab"/></testcase>
</testsuite></testsuites>"""


def test_failed_and_skipped_tests_are_named_with_their_reasons_before_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.xml").write_text(_RESULTS)
    assert summary.main([tmp_path / "one.xml"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "skipped: b.left out: no lab",
        "failed: a.bad: assert 1 == 2",
        "failed: b.broken: failed on setup",
        "1 passed, 2 failed, 1 skipped",
    ]


def test_no_test_at_all_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text("<testsuites/>")
    assert summary.main([tmp_path / "one.xml"]) == 1
