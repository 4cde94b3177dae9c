"""Of a host's apt configuration, what fits a bookworm image is used, and nothing else."""

from __future__ import annotations

from pathlib import Path

from sipmediadeploy.images.base import mmdebstrap_command
from sipmediadeploy.images.host import HostPackages, apt_settings, bookworm_sources

ONE_LINE = """
# deb http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb https://packages.example/docker bookworm stable
deb http://mirror.example/debian trixie main
deb cdrom:[Debian]/ bookworm main
"""
DEB822 = """Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://archive.example/ubuntu
Suites: noble
Components: main universe
"""


def test_only_debian_bookworms_own_sources_are_used_once_each() -> None:
    assert bookworm_sources([ONE_LINE], [DEB822]).splitlines() == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-updates main",
    ]


def test_a_host_of_another_release_gives_no_sources() -> None:
    assert (
        bookworm_sources([], ["Types: deb\nURIs: http://u.example\nSuites: noble\nComponents: main\n"]) == ""
    )


def test_settings_on_fetching_are_used_and_hooks_are_not() -> None:
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire::http::Proxy "http://proxy.example:3128/";\n'
        'Acquire::https::CAInfo "/etc/host.pem";\n'
        'Acquire::Retries "3";\n'
        'Acquire::Languages:: "en";\n'
        'DPkg::Post-Invoke:: "reboot";\n'
    )
    assert apt_settings(dump).splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128/";',
        'Acquire::Retries "3";',
    ]


def test_the_base_is_made_from_the_hosts_sources_and_forgets_them(tmp_path: Path) -> None:
    host = HostPackages('Acquire::Retries "3";\n', "deb http://m.example/debian bookworm main\n", "")
    command = mmdebstrap_command(host, tmp_path, tmp_path / "base.tar")
    assert command[-1] == str(tmp_path / "sources.list")
    assert (tmp_path / "sources.list").read_text() == host.sources
    hooks = "\n".join(part for part in command if part.startswith("--customize-hook="))
    assert "sources.list.d" in hooks
    assert "99mmdebstrap" in hooks


def test_without_fitting_sources_the_distributions_default_ones_are_used(tmp_path: Path) -> None:
    command = mmdebstrap_command(HostPackages("", "", ""), tmp_path, tmp_path / "base.tar")
    assert command[-2:] == ["bookworm", str(tmp_path / "base.tar")]
    keys = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    assert (f"--keyring={keys}" in command) == keys.exists(), "Ubuntu's apt does not trust Debian's keys"


def test_a_build_gets_the_hosts_certificate_authorities_only_if_there_are_any() -> None:
    assert HostPackages("", "", "").files() == {"host/apt/apt.conf.d/95host": ""}
    files = HostPackages("", "", "PEM").files()
    assert files["host/ca-certificates.crt"] == "PEM"
    assert "CAInfo" in files["host/apt/apt.conf.d/95host"]
