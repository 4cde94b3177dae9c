"""A lab's range is refused when anything on the host needs an address of it."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from tests.lab.openstack.ranges import (
    RESERVED,
    Use,
    address_uses,
    conflicts,
    dns_uses,
    package_hosts,
    route_uses,
)

NETWORK = IPv4Network("198.18.77.0/24")


def used(*networks: str) -> list[Use]:
    return [Use(IPv4Network(network), "something") for network in networks]


@pytest.mark.parametrize("network", ["198.18.77.0/24", "198.18.0.0/15", "198.18.77.128/25", "198.18.77.9/32"])
def test_what_shares_an_address_is_a_conflict(network: str) -> None:
    assert [use.network for use in conflicts(NETWORK, used(network))] == [IPv4Network(network)]


@pytest.mark.parametrize("network", ["198.18.76.0/24", "198.18.78.0/24", "10.0.0.0/8", "198.18.240.0/20"])
def test_what_shares_none_is_not(network: str) -> None:
    assert conflicts(NETWORK, used(network)) == []


def test_each_conflict_is_told_once() -> None:
    assert len(conflicts(NETWORK, used("198.18.77.9/32", "198.18.77.9/32", "198.18.77.8/32"))) == 2


@pytest.mark.parametrize(
    "network", ["172.30.5.0/24", "198.18.240.0/24", "198.18.255.0/24", "203.0.113.0/24", "192.0.2.0/24"]
)
def test_ranges_of_the_projects_stacks_and_of_documentation_are_reserved(network: str) -> None:
    assert conflicts(IPv4Network(network), RESERVED)


def test_the_default_range_is_not_reserved() -> None:
    assert not conflicts(NETWORK, RESERVED)


def test_routes_count_but_the_default_and_the_labs_own() -> None:
    routes = [
        {"dst": "default", "gateway": "192.168.1.1", "dev": "eth0"},
        {"dst": "0.0.0.0/0", "type": "blackhole"},
        {"dst": "198.18.77.0/24", "dev": "smd-oslab", "scope": "link"},
        {"dst": "10.1.0.0/16", "dev": "vpn0"},
        {"type": "unreachable", "dst": "198.18.0.0/15"},
        {"type": "local", "dst": "127.0.0.1", "dev": "lo", "table": "local"},
    ]
    found = {str(use.network): use.what for use in route_uses(routes, ignored="smd-oslab")}
    assert found == {
        "10.1.0.0/16": "a route of this host by vpn0",
        "198.18.0.0/15": "a route of this host",
        "127.0.0.1/32": "a route of this host by lo",
    }


def test_an_addresss_whole_network_counts() -> None:
    links = [
        {"ifname": "eth0", "addr_info": [{"local": "198.18.77.200", "prefixlen": 23}]},
        {"ifname": "smd-oslab", "addr_info": [{"local": "198.18.77.1", "prefixlen": 24}]},
        {"ifname": "down0", "addr_info": []},
    ]
    (use,) = address_uses(links, ignored="smd-oslab")
    assert use == Use(IPv4Network("198.18.76.0/23"), "the network of this host's eth0")


def test_dns_servers_of_version_4_count() -> None:
    text = "# nameserver 192.168.0.1\nnameserver 198.18.77.53\nnameserver fd00::1\noptions edns0\n"
    assert [str(use.network) for use in dns_uses(text)] == ["198.18.77.53/32"]


def test_package_sources_and_proxies_are_found() -> None:
    settings = (
        "deb [trusted=yes] http://mirror.example/debian bookworm main\nURIs: https://user:pw@deb.example/d\n"
    )
    environment = {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "UV_INDEX_URL": "https://pypi.example/simple",
        "HOME": "https://not-a-source.example",
    }
    assert package_hosts(settings, environment) == {
        "mirror.example",
        "deb.example",
        "proxy.example",
        "pypi.example",
    }
