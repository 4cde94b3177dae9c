"""A way to Debian's packages for instances, which reach nothing but this host: an HTTP proxy here.

It is tinyproxy, which listens on the lab's public network only, serves that network only, and fetches from
the hosts of the Debian server's package sources only. Nothing else gets out (no CONNECT).
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness.openstack.settings import Lab, LabError
from tests.lab.openstack import host, images

PORT = 3142
"""That of apt-cacher-ng, by which people know a proxy for packages."""
_LISTENS_S = 10.0


@contextlib.contextmanager
def package_proxy(lab: Lab) -> Iterator[str]:
    """The proxy while it runs: its URL, as apt and ``smd deploy --packer-apt-proxy`` take it.

    Raises:
        LabError: the lab is not up or has no Debian server, tinyproxy is missing, or the port is in use.
    """
    host.running(lab)
    with tempfile.TemporaryDirectory(prefix="smd-lab-proxy-") as directory:
        Path(directory).chmod(0o755)  # tinyproxy is another user
        hosts = Path(directory) / "hosts"
        hosts.write_text("".join(f"^{re.escape(name)}$\n" for name in package_hosts(_sources(lab))))
        configuration = Path(directory) / "tinyproxy.conf"
        configuration.write_text(write_configuration(lab, hosts, _upstream()))
        with _started(configuration, Path(directory) / "log") as process:
            _wait_until_it_listens(lab, process, Path(directory) / "log")
            yield f"http://{lab.host_address}:{PORT}"


def write_configuration(lab: Lab, hosts: Path, upstream: str) -> str:
    """tinyproxy's. ``hosts``: a file with what may be fetched from; ``upstream``: this host's own proxy."""
    lines = [
        "User nobody",
        "Group nogroup",
        f"Port {PORT}",
        f"Listen {lab.host_address}",
        f"Allow {lab.network}",
        "MaxClients 30",
        "Timeout 120",
        "LogLevel Warning",
        "DisableViaHeader Yes",
        "ConnectPort 0",
        f'Filter "{hosts}"',
        "FilterType ere",
        "FilterDefaultDeny Yes",
    ]
    if upstream:
        lines.append(f"Upstream http {urlsplit(upstream).netloc}")
    return "\n".join([*lines, ""])


def package_hosts(sources: str) -> list[str]:
    """The hosts of package sources (sources.list(5)); those that no HTTP proxy is for are left out. Pure.

    Raises:
        LabError: there is none.
    """
    found = sorted(set(re.findall(r"^deb .*?\bhttp://([^/:\s]+)", sources, re.MULTILINE)))
    if not found:
        raise LabError("the Debian server has no package source with http://, so there is nothing to hand on")
    return found


def _sources(lab: Lab) -> str:
    try:
        return images.package_sources(lab).read_text()
    except OSError:
        raise LabError("the lab has no Debian server: tests/lab/openstack/lab debian makes it") from None


def _upstream() -> str:
    """The proxy by which this host's own apt reaches packages; empty: none."""
    said = host.run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"])
    return said.partition("=")[2].strip().strip("'")


@contextlib.contextmanager
def _started(configuration: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["tinyproxy", "-d", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
    except FileNotFoundError:
        raise LabError("tinyproxy is missing: ./smd host-packages lab-builds installs it") from None
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _wait_until_it_listens(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _LISTENS_S
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((str(lab.host_address), PORT), 1.0):
            return
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise LabError(
        f"tinyproxy does not listen on {lab.host_address}:{PORT}: {' '.join(said) or 'no reason given'}"
    )
