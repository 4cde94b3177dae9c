"""The port map of a published stack is right, fixed, and refuses what would break it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker.addresses import rtp_ports, slot_address
from sipmediadeploy.providers.docker.publish_rules import (
    Listener,
    forwards,
    parse_listeners,
    published_gateway_slots,
    refuse_conflicts,
    ruleset,
)
from sipmediadeploy.stack import Role, Stack, parse_stack

SUBNET = IPv4Network("172.30.7.0/24")
HOST = IPv4Address("198.51.100.5")


def stack(extra: str = "") -> Stack:
    return parse_stack(f"name: demo\ndomain: sip.example.org\npublish: {HOST}\n{extra}")


def test_every_service_is_reached_at_the_published_address_on_its_own_port() -> None:
    rules = ruleset(stack(), SUBNET, "smd-demo")
    for line in (
        "udp dport 5060 dnat to 172.30.7.2",
        "tcp dport 5060 dnat to 172.30.7.2",
        "udp dport 3478 dnat to 172.30.7.3",
        "tcp dport 3478 dnat to 172.30.7.3",
        "udp dport 49160-49559 dnat to 172.30.7.3",
        "tcp dport 443 dnat to 172.30.7.9",
        "udp dport 40000-40399 dnat to 172.30.7.9",
    ):
        assert f"\t{line}\n" in rules


def test_the_sip_port_of_the_stack_file_is_the_one_that_is_mapped() -> None:
    rules = ruleset(stack("sip: {port: 5070}"), SUBNET, "smd-demo")
    assert "udp dport 5070 dnat to 172.30.7.2" in rules
    assert "dport 5060" not in rules


def test_every_gateway_slot_up_to_the_maximum_has_its_rtp_ports_mapped_to_its_own_address() -> None:
    one = stack()
    rules = ruleset(one, SUBNET, "smd-demo")
    assert len(published_gateway_slots(one)) > one.pools.gateway.max
    for slot in published_gateway_slots(one):
        first, last = rtp_ports(one, slot)
        assert f"udp dport {first}-{last} dnat to {slot_address(SUBNET, Role.GATEWAY, slot)}\n" in rules


def test_the_map_replaces_the_former_one_in_the_same_transaction() -> None:
    lines = ruleset(stack(), SUBNET, "smd-demo").splitlines()
    assert lines[:3] == ["table ip smd-demo", "delete table ip smd-demo", "table ip smd-demo {"]


def test_a_stack_with_a_conference_of_its_own_has_no_page_mapped() -> None:
    rules = ruleset(stack("conference: {url: 'wss://meet.example.org/ws'}"), SUBNET, "smd-demo")
    assert "dport 443" not in rules


def test_no_two_services_ever_share_a_port() -> None:
    with pytest.raises(ProviderError, match="ports 3478 of TURN are those of SIP"):
        forwards(stack("sip: {port: 3478}"), SUBNET)


def test_more_gateways_than_there_are_ports_for_are_refused_with_what_to_change() -> None:
    with pytest.raises(ProviderError, match=r"lower pools\.gateway\.max"):
        forwards(stack("pools: {gateway: {max: 128, calls: 64}}"), SUBNET)


def test_replacement_slots_are_given_up_before_the_pool_itself_when_ports_are_short() -> None:
    one = stack("pools: {gateway: {max: 70, calls: 64}}")
    assert len(published_gateway_slots(one)) == 78
    assert forwards(one, SUBNET)


OWN = {IPv4Address("127.0.0.1"), HOST}


@pytest.mark.parametrize(
    ("publish", "message"),
    [("203.0.113.9", "is not an address of this host; it has 198.51.100.5"), ("127.0.0.1", "loopback")],
)
def test_an_address_that_others_cannot_reach_here_is_refused(publish: str, message: str) -> None:
    with pytest.raises(ProviderError, match=message):
        refuse_conflicts(IPv4Address(publish), [], OWN, [])


@pytest.mark.parametrize(
    "listener",
    [
        Listener("udp", None, 5060),
        Listener("tcp", HOST, 443),
        Listener("udp", None, 20_001),
        Listener("tcp", None, 3478),
    ],
)
def test_a_port_that_a_program_listens_on_is_refused_by_name(listener: Listener) -> None:
    with pytest.raises(ProviderError, match=f":{listener.port}/{listener.protocol}, which is needed for"):
        refuse_conflicts(HOST, forwards(stack(), SUBNET), OWN, [listener])


@pytest.mark.parametrize(
    "listener",
    [
        Listener("tcp", IPv4Address("127.0.0.1"), 443),
        Listener("udp", None, 443),
        Listener("tcp", None, 20_001),
        Listener("udp", None, 40_010),
    ],
)
def test_other_programs_sockets_do_not_stand_in_the_way(listener: Listener) -> None:
    refuse_conflicts(HOST, forwards(stack(), SUBNET), OWN, [listener])


def test_listening_sockets_are_read_as_the_kernel_writes_them() -> None:
    head = "  sl  local_address rem_address   st\n"
    tcp = head + (
        "   0: 0100007F:1F90 00000000:0000 0A 0 0\n"
        "   1: 00000000:01BB 00000000:0000 0A 0 0\n"
        "   2: 056433C6:01BB 0A6433C6:9C40 01 0 0\n"
    )
    assert parse_listeners("tcp", tcp) == [
        Listener("tcp", IPv4Address("127.0.0.1"), 8080),
        Listener("tcp", None, 443),
    ]
    udp6 = head + f"   0: {'0' * 32}:13C4 {'0' * 32}:0000 07 0 0\n"
    assert parse_listeners("udp", udp6) == [Listener("udp", None, 5060)]
