"""What replicas are told of TURN, and of who may call."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from sipmediadeploy.protocol.replica import (
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
)
from sipmediadeploy.protocol.secrets import Secrets, turn_secret
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.main import usable_slots
from sipmediadeploy.stack import Role, StackError, parse_stack

SUBNET = IPv4Network("172.30.5.0/24")
SECRETS = Secrets(master="m" * 43)


def gateway_document(turn: str) -> ReplicaDocument:
    stack = parse_stack(f"name: demo\ndomain: sip.test\nturn: {turn}\n")
    return make_document(stack, SUBNET, SECRETS, "v", Role.GATEWAY, 0, "smd-demo-gateway-0")


def test_with_turn_never_a_gateway_knows_no_turn_server_and_no_turn_secret() -> None:
    document = gateway_document("never")
    assert isinstance(document.service, GatewayService)
    assert document.service.conference.turn_server is None
    assert turn_secret(SECRETS.master) not in document.to_yaml()


@pytest.mark.parametrize("turn", ["auto", "always"])
def test_otherwise_a_gateway_uses_the_turn_pools_service_address(turn: str) -> None:
    document = gateway_document(turn)
    assert isinstance(document.service, GatewayService)
    server = document.service.conference.turn_server
    assert server is not None
    assert str(server.address) == "172.30.5.3"
    assert document.service.conference.turn == turn


def test_gateways_on_machines_of_their_own_share_no_ports_to_be_dealt_out() -> None:
    many = "pools: {gateway: {max: 128, calls: 64}}\n"
    stack = parse_stack(f"name: demo\ndomain: sip.test\nprovider: openstack\n{many}")
    documents = [
        make_document(stack, SUBNET, SECRETS, "v", Role.GATEWAY, slot, "demo-gateway-1") for slot in (0, 127)
    ]
    services = [document.service for document in documents]
    assert all(isinstance(one, GatewayService) and one.rtp_ports == (20000, 20255) for one in services)
    assert (Role.GATEWAY, 129) in usable_slots(stack)
    with pytest.raises(StackError, match="RTP ports of one machine"):
        usable_slots(parse_stack(f"name: demo\ndomain: sip.test\n{many}"))


def coturn_service(more: str) -> CoturnService:
    stack = parse_stack(f"name: demo\ndomain: sip.test\npublish: 198.18.0.5\n{more}")
    document = make_document(stack, SUBNET, SECRETS, "v", Role.COTURN, 0, "smd-demo-coturn-0")
    assert isinstance(document.service, CoturnService)
    return document.service


def test_a_relay_tells_the_address_that_its_packets_come_from() -> None:
    assert coturn_service("").external_ip is None, "the demo conference is on the same bridge"
    outside = coturn_service("conference: {url: 'wss://meet.test/janus'}\n")
    assert str(outside.external_ip) == "198.18.0.5"


@pytest.mark.parametrize(
    ("more", "expected"),
    [("", []), ("sip: {allow: [10.0.0.0/8]}\n", ["10.0.0.0/8", "172.30.5.0/24"])],
)
def test_a_list_of_callers_leaves_the_stacks_own_network_in(more: str, expected: list[str]) -> None:
    stack = parse_stack(f"name: demo\ndomain: sip.test\n{more}")
    document = make_document(stack, SUBNET, SECRETS, "v", Role.KAMAILIO, 0, "smd-demo-kamailio-0")
    assert isinstance(document.service, KamailioService)
    assert [str(network) for network in document.service.allow] == expected
