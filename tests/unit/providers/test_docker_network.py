"""A stack's network never overlaps anything that the host uses."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.labels import bridge_name, container_name
from sipmediadeploy.providers.docker.network import (
    RANGES,
    Used,
    choose_subnet,
    parse_local_addresses,
    parse_routes,
)


def used(*networks: str) -> list[Used]:
    return [Used(IPv4Network(network), "route by eth0") for network in networks]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "172.30.0.0/24"),
        (["172.30.0.0/24", "172.30.1.128/32"], "172.30.2.0/24"),
        (["172.16.0.0/12"], "198.18.0.0/24"),
        (["172.30.0.0/16", "198.18.0.0/15"], "100.64.0.0/24"),
    ],
)
def test_the_first_free_range_is_chosen(taken: list[str], expected: str) -> None:
    assert choose_subnet(None, used(*taken)) == IPv4Network(expected)


def test_a_wanted_range_in_use_is_refused_by_what_uses_it() -> None:
    with pytest.raises(ProviderError, match=r"10\.1\.2\.0/24 overlaps 10\.1\.0\.0/16, .*route by eth0"):
        choose_subnet(IPv4Network("10.1.2.0/24"), used("10.1.0.0/16"))


def test_a_wanted_free_range_is_taken() -> None:
    assert choose_subnet(IPv4Network("10.9.2.0/24"), used("10.1.0.0/16")) == IPv4Network("10.9.2.0/24")


def test_no_free_range_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ProviderError, match=r"set network\.subnet"):
        choose_subnet(None, used(*map(str, RANGES)))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(16, 32)).map(
            lambda pair: Used(IPv4Network(pair, strict=False), "x")
        ),
        max_size=8,
    )
)
def test_what_is_chosen_overlaps_nothing(taken: list[Used]) -> None:
    chosen = choose_subnet(None, taken)
    assert not any(chosen.overlaps(one.network) for one in taken)


def test_routes_are_read_as_the_kernel_writes_them() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert parse_routes(text) == [Used(IPv4Network("172.17.0.0/16"), "route by docker0")]


def test_own_addresses_are_read_once_each() -> None:
    entry = "           |-- 192.0.2.2\n              /32 host LOCAL\n"
    other = "           |-- 192.0.2.255\n              /32 link BROADCAST\n"
    assert parse_local_addresses(entry + other + entry) == [
        Used(IPv4Network("192.0.2.2"), "address of this host")
    ]


def test_bridge_names_fit_and_differ() -> None:
    names = ["demo", "elevenchars", "a-rather-long-name", "a-rather-long-name-too"]
    bridges = [bridge_name(name) for name in names]
    assert bridges[:2] == ["smd-demo", "smd-elevenchars"]
    assert all(len(bridge) <= 15 for bridge in bridges)
    assert len(set(bridges)) == len(bridges)


def test_a_containers_name_begins_with_its_stack_exactly_once() -> None:
    assert container_name("demo", "gateway-0") == "smd-demo-gateway-0"
    assert container_name("demo", "demo-gateway-0") == "smd-demo-gateway-0"
