"""An address that this machine has for the time of the tests, on a veth pair that leads nowhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType

from tests.harness.running import run

RANGE = IPv4Network("198.18.240.0/24")
"""A part of what is set aside for tests between networks (RFC 2544)."""


def free_network(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first /30 of :data:`RANGE` that overlaps with nothing. Raises OSError when there is none."""
    networks = list(taken)
    for network in RANGE.subnets(new_prefix=30):
        if not any(network.overlaps(other) for other in networks):
            return network
    raise OSError(f"this machine has routes to all of {RANGE}: no address is left for the tests")


class OwnAddress:
    """A veth pair with an address; a context manager. Needs root."""

    def __init__(self, interface: str) -> None:
        """``interface``: its name, 14 characters at most. What an aborted run left behind is removed."""
        self.interface = interface
        self.address = IPv4Address(0)

    def __enter__(self) -> OwnAddress:
        self._remove()
        network = free_network(_routes())
        self.address = network[1]
        run("ip", "link", "add", self.interface, "type", "veth", "peer", "name", f"{self.interface}p")
        try:
            run("ip", "addr", "add", f"{self.address}/{network.prefixlen}", "dev", self.interface)
            for name in (self.interface, f"{self.interface}p"):
                run("ip", "link", "set", name, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        subprocess.run(["ip", "link", "del", self.interface], capture_output=True, check=False)


def _routes() -> list[IPv4Network]:
    """The networks that this machine has routes to, its own included; not the default route."""
    found = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    places = [route["dst"] for route in found if route["dst"] != "default"]
    return [network for network in map(IPv4Network, places) if network.prefixlen > 0]
