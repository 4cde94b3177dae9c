"""Which ranges a lab must not take: a route over a DNS server or package source cuts a host off."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from tests.harness.openstack.settings import NETWORK, Lab, LabError


@dataclass(frozen=True, slots=True)
class Use:
    """Addresses that something on this host needs."""

    network: IPv4Network
    what: str


RESERVED = (
    Use(IPv4Network("172.30.0.0/16"), "where stacks on Docker have their networks"),
    Use(IPv4Network("198.18.240.0/20"), "where the project's tests on Docker have theirs"),
    # They belong to nobody, so some networks have services of their own there that routes elsewhere hide.
    Use(IPv4Network("192.0.2.0/24"), "reserved for documentation (RFC 5737)"),
    Use(IPv4Network("198.51.100.0/24"), "reserved for documentation (RFC 5737)"),
    Use(IPv4Network("203.0.113.0/24"), "reserved for documentation (RFC 5737)"),
)
_PACKAGE_SETTINGS = (
    *("/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*"),
    *("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf", "/etc/npmrc", "~/.npmrc"),
    *(
        "~/.config/uv/uv.toml",
        "/etc/uv/uv.toml",
        "~/.cargo/config*",
        "~/.config/go/env",
        "/etc/docker/daemon.json",
    ),
)
_HOST = re.compile(r"(?:https?|socks5h?)://(?:[^/@\s\"']*@)?([A-Za-z0-9.-]+)")
_SETTING = re.compile(r"proxy|index|registry|mirror", re.IGNORECASE)
_LIMIT_S = 20


def check_range(lab: Lab) -> None:
    """Make sure that nothing on this host needs an address of the lab's public network.

    Raises:
        LabError: something does; which, and what to do.
    """
    found = conflicts(lab.network, [*RESERVED, *read_uses(ignored=lab.name)])
    if found:
        lines = "".join(f"\n  {use.network}: {use.what}" for use in found)
        raise LabError(
            f"{lab.network} can't be the lab's public network, it has addresses that are in use:{lines}\n"
            f"Take a /24 that nothing uses, for example {NETWORK}={_proposal(lab.network)}"
        )


def conflicts(network: IPv4Network, uses: Iterable[Use]) -> list[Use]:
    """Those of ``uses`` that share an address with ``network``, each once."""
    return list(dict.fromkeys(use for use in uses if use.network.overlaps(network)))


def _proposal(network: IPv4Network) -> IPv4Network:
    """Another one, of those for tests of network devices (RFC 2544), which no host elsewhere has."""
    low = IPv4Network("198.18.0.0/16")
    return IPv4Network("198.19.77.0/24" if network.overlaps(low) else "198.18.77.0/24")


def read_uses(ignored: str) -> list[Use]:
    """What this host uses; ``ignored`` is the interface of the lab itself."""
    uses = list(route_uses(_ip("route", "show", "table", "all"), ignored))
    uses += address_uses(_ip("addr", "show"), ignored)
    uses += dns_uses(_read(Path("/etc/resolv.conf")))
    texts = [_read(path) for pattern in _PACKAGE_SETTINGS for path in _matching(pattern)]
    names = package_hosts("\n".join(texts), os.environ)
    for name in sorted(names):
        uses += [
            Use(address, f"a package source or proxy of this host, {name}") for address in _resolve(name)
        ]
    return uses


def route_uses(routes: list[Any], ignored: str) -> Iterator[Use]:
    """The destinations of this host's routes, as ``ip -json route`` shows them, without the default."""
    for route in routes:
        destination = route.get("dst", "default")
        if destination == "default" or route.get("dev") == ignored or destination == "0.0.0.0/0":
            continue
        where = f" by {route['dev']}" if "dev" in route else ""
        yield Use(IPv4Network(destination, strict=False), f"a route of this host{where}")


def address_uses(links: list[Any], ignored: str) -> Iterator[Use]:
    """This host's addresses, as ``ip -json addr`` shows them."""
    for link in links:
        for address in link.get("addr_info", ()) if link.get("ifname") != ignored else ():
            network = IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
            yield Use(network, f"the network of this host's {link['ifname']}")


def dns_uses(resolv_conf: str) -> Iterator[Use]:
    """The DNS servers of a resolv.conf(5)."""
    for match in re.finditer(r"^\s*nameserver\s+([0-9.]+)\s*$", resolv_conf, re.MULTILINE):
        yield Use(IPv4Network(match[1]), "a DNS server of this host")


def package_hosts(settings: str, environment: Mapping[str, str]) -> set[str]:
    """The hosts in package managers' settings, and in variables that name proxies and indexes."""
    values = [value for name, value in environment.items() if _SETTING.search(name)]
    return set(_HOST.findall("\n".join([settings, *values])))


def _resolve(name: str) -> list[IPv4Network]:
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET)
    except OSError:
        return []
    return [IPv4Network(address) for address in sorted({str(one[4][0]) for one in found})]


def _ip(*arguments: str) -> list[Any]:
    command = ["ip", "-json", "-4", *arguments]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LIMIT_S).stdout
    except (OSError, subprocess.SubprocessError) as e:
        raise LabError(
            f"this host's routes can't be read ({e}): ./smd host-packages lab installs iproute2"
        ) from None
    rows: list[Any] = json.loads(text or "[]")
    return rows


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    return sorted(path.parent.glob(path.name))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
