"""Where the lab is and what its parts on this host are called: from the environment, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
DIRECTORY, NETWORK, NAME = "SMD_OPENSTACK_LAB_DIR", "SMD_OPENSTACK_LAB_NET", "SMD_OPENSTACK_LAB_NAME"
DEFAULT_NETWORK, DEFAULT_NAME = "198.18.77.0/24", "smd-oslab"


class LabError(Exception):
    """Something that the user can do something about: what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab on this host."""

    name: str
    """Its network interface on this host, and its control group."""
    directory: Path
    """All that it keeps."""
    network: IPv4Network
    """The public network, a /24: .1 is this host, .2 the API, .10 to .200 are floating IPs."""

    @property
    def host_address(self) -> IPv4Address:
        """This host's address on the public network."""
        return self.network[1]

    @property
    def api_address(self) -> IPv4Address:
        """Where the OpenStack services listen."""
        return self.network[2]

    @property
    def root(self) -> Path:
        """The root file system: Debian with OpenStack's packages, and no state."""
        return self.directory / "root"

    @property
    def state(self) -> Path:
        """Databases, images, instances, configuration and logs; ``/lab`` in the lab."""
        return self.directory / "state"

    @property
    def images(self) -> Path:
        """Instance images that were made, by content; kept by a new cloud."""
        return self.directory / "images"

    @property
    def clouds(self) -> Path:
        """The clouds.yaml for clients on this host."""
        return self.directory / "clouds.yaml"

    @property
    def openrc(self) -> Path:
        """A shell file that makes clients use it, and no proxy for it."""
        return self.directory / "openrc"


def read_settings(environment: Mapping[str, str]) -> Lab:
    """The lab that ``environment`` describes.

    Raises:
        LabError: a variable's value can't be used.
    """
    name = environment.get(NAME) or DEFAULT_NAME
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,13}", name):
        raise LabError(f"{NAME}={name}: a network interface's name of at most 14 of a-z, 0-9 and - is needed")
    directory = environment.get(DIRECTORY)
    path = Path(directory).expanduser().absolute() if directory else PROJECT / "artifacts/lab/openstack"
    if re.search(r"[\s,:\\'\"]", str(path)):
        raise LabError(f"{DIRECTORY}={path}: a path without spaces, commas, colons and quotes is needed")
    return Lab(name, path, parse_network(environment.get(NETWORK) or DEFAULT_NETWORK))


def parse_network(text: str) -> IPv4Network:
    """The public network that ``text`` names.

    Raises:
        LabError: it is no IPv4 /24 that a lab can have.
    """
    try:
        network = IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise LabError(f"{NETWORK}={text}: an IPv4 network is needed, such as {DEFAULT_NETWORK}") from None
    if network.prefixlen != 24:
        raise LabError(f"{NETWORK}={text}: the lab takes exactly a /24, such as {DEFAULT_NETWORK}")
    if network.is_multicast or network.is_loopback or network.is_link_local or network[0].packed[0] == 0:
        raise LabError(
            f"{NETWORK}={text}: hosts can't have such addresses; take one such as {DEFAULT_NETWORK}"
        )
    return network
