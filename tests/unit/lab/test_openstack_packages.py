"""The proxy by which instances of the lab reach packages serves them, and hands on nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipmediadeploy.stack import Role
from tests.harness.openstack.settings import LabError, read_settings
from tests.lab.openstack.package_proxy import package_hosts, write_configuration
from tests.lab.openstack.role_images import parse_roles


def test_only_the_lab_is_served_and_only_from_package_sources() -> None:
    lines = write_configuration(read_settings({}), Path("/run/x/hosts"), "").splitlines()
    assert {"Listen 198.18.77.1", "Allow 198.18.77.0/24", "ConnectPort 0", "FilterDefaultDeny Yes"} <= {
        *lines
    }
    assert not [line for line in lines if line.startswith("Upstream")]


def test_what_this_host_reaches_by_a_proxy_is_handed_on_to_it() -> None:
    text = write_configuration(read_settings({}), Path("/run/x/hosts"), "http://192.0.2.9:3128/")
    assert "Upstream http 192.0.2.9:3128" in text.splitlines()


def test_hosts_of_package_sources_are_those_that_plain_http_reaches() -> None:
    sources = (
        "deb http://packages.test/debian bookworm main\n"
        "deb [signed-by=/usr/share/keyrings/x.gpg] http://packages.test:80/security bookworm-security main\n"
        "# deb http://not.test/debian bookworm main\n"
        "deb https://other.test/apt bookworm main\n"
    )
    assert package_hosts(sources) == ["packages.test"]
    with pytest.raises(LabError, match="no package source with http://"):
        package_hosts("deb https://other.test/apt bookworm main\n")


def test_role_images_are_made_of_those_that_are_named() -> None:
    assert parse_roles(["scaler", "coturn"]) == [
        role for role in parse_roles([]) if role in ("scaler", "coturn")
    ]
    assert Role.KAMAILIO in parse_roles([])
    with pytest.raises(LabError, match=r"no role jigasi; there are .*kamailio"):
        parse_roles(["jigasi"])
