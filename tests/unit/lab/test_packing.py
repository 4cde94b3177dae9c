"""When Packer builds images in a run of the tests."""

from __future__ import annotations

import pytest

from tests.harness.openstack import packing
from tests.harness.running import ROOT


@pytest.mark.parametrize(
    ("proven", "just_changed", "always", "is_due"),
    [
        (["this", "other"], None, False, False),
        (["other"], None, False, True),
        ([], True, False, True),
        ([], False, False, False),
        ([], None, False, False),
        (["this"], None, True, True),
    ],
    ids=["proven", "changed", "just changed", "nothing known", "shallow clone", "always"],
)
def test_builds_are_due_when_they_may_tell_something_new(
    proven: list[str], just_changed: bool | None, always: bool, is_due: bool
) -> None:
    assert packing.decide("this", proven, just_changed, always)[0] is is_due


def test_the_recipe_names_what_is_there() -> None:
    assert [name for name in packing.RECIPE if not (ROOT / name).exists()] == []
