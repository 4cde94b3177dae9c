"""The lab's settings come from the environment, and what can't be is refused with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.openstack.settings import DIRECTORY, NAME, NETWORK, LabError, read_settings


def test_nothing_set_is_a_lab_in_artifacts() -> None:
    lab = read_settings({})
    assert lab.directory.parts[-3:] == ("artifacts", "lab", "openstack")
    assert (lab.name, str(lab.host_address), str(lab.api_address)) == (
        "smd-oslab",
        "198.18.77.1",
        "198.18.77.2",
    )


def test_all_can_be_set(tmp_path: Path) -> None:
    lab = read_settings({NAME: "second", NETWORK: "198.19.5.0/24", DIRECTORY: str(tmp_path)})
    assert (lab.name, str(lab.network), lab.root) == ("second", "198.19.5.0/24", tmp_path / "root")


@pytest.mark.parametrize(
    "value",
    [
        "198.18.77",
        "198.18.77.1/24",
        "198.18.0.0/16",
        "198.18.77.0/25",
        "fd00::/24",
        "127.0.0.0/24",
        "224.1.1.0/24",
    ],
)
def test_a_range_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(LabError, match=rf"{NETWORK}=.*198\.18\.77\.0/24"):
        read_settings({NETWORK: value})


@pytest.mark.parametrize("value", ["a-name-that-is-too-long", "Upper", "with space", "-x", "a/b"])
def test_a_name_that_is_no_interfaces_is_refused(value: str) -> None:
    with pytest.raises(LabError, match=NAME):
        read_settings({NAME: value})


def test_a_directory_that_mounts_can_not_name_is_refused() -> None:
    with pytest.raises(LabError, match=DIRECTORY):
        read_settings({DIRECTORY: "/tmp/with space"})
