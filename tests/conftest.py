"""What all tests share."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import failure

# How long an example takes, and how long making it, says more of the machine than of the code.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test prints the last log lines of its stacks' replicas."""
    report = yield
    if report.failed and report.when != "teardown":
        report.sections += failure.sections(getattr(item, "funcargs", {}).values())
    return report
