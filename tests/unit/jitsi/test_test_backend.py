"""What `make test-jitsi` needs: it says all that is missing, and takes addresses that nobody uses."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.harness.jitsi.installation import NoJitsi, find_installation
from tests.harness.jitsi.own_address import RANGE, free_network


def test_a_machine_without_jitsi_is_told_everything_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NoJitsi, match=r"JVB_CP .*JICOFO_CP .*LJM"):
        find_installation({}, tmp_path)


def test_given_class_paths_come_before_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_commands(tmp_path, monkeypatch)
    for name in ("jitsi-videobridge/lib/a.jar", "jicofo/jicofo.jar", "jitsi-meet/libs/lib-jitsi-meet.min.js"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_installation({"JVB_CP": "/opt/jvb/*", "JITSI_JAVA_OPTIONS": "-Da=b '-Dc=d e'"}, tmp_path)
    assert found.jvb == "/opt/jvb/*"
    assert found.jicofo == f"{tmp_path}/jicofo/*"
    assert found.java_options == ("-Da=b", "-Dc=d e")


def test_the_address_overlaps_with_no_route() -> None:
    first = free_network([])
    assert first.subnet_of(RANGE)
    assert not free_network([IPv4Network("198.18.240.1/32")]).overlaps(first)
    with pytest.raises(OSError, match="no address is left"):
        free_network([IPv4Network("198.18.0.0/15")])


def _pretend_commands(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prosody", "java", "openssl", "ip"):
        (directory / name).touch(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr("os.geteuid", lambda: 0)
