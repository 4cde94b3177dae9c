"""The documents of hosts that are there for good."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from pydantic import ValidationError

from sipmediadeploy.node import state
from sipmediadeploy.node.roles.kamailio.gateways import dispatcher_list
from sipmediadeploy.node.roles.registry import role_of
from sipmediadeploy.node.state import AgentState
from sipmediadeploy.protocol.agent import Gateways
from sipmediadeploy.protocol.replica import (
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
)
from sipmediadeploy.protocol.secrets import Secrets, agent_token
from sipmediadeploy.scaler.fixed_hosts import Fleet, FleetError, host_document
from sipmediadeploy.stack import Stack, parse_stack

SECRETS = Secrets(master="m" * 43)
HOSTS: dict[str, Any] = {
    "sip-a": {"role": "kamailio", "address": "192.0.2.21"},
    "sip-b": {"role": "kamailio", "address": "192.0.2.22"},
    "relay": {"role": "coturn", "address": "192.0.2.31"},
    "gw-1": {"role": "gateway", "address": "192.0.2.41"},
    "gw-2": {"role": "gateway", "address": "192.0.2.42", "public_address": "198.51.100.42"},
    "rooms": {"role": "conference-demo", "address": "192.0.2.51"},
}
FLEET: dict[str, Any] = {
    "network": "192.0.2.0/26",
    "service_addresses": {"kamailio": "192.0.2.2", "coturn": "192.0.2.3"},
    "hosts": HOSTS,
}


def fleet(**changed: Any) -> Fleet:
    return Fleet.model_validate(FLEET | changed)


def stack(more: str = "") -> Stack:
    return parse_stack(f"name: fixed\ndomain: sip.test\n{more}")


def document(name: str, more: str = "", **changed: Any) -> ReplicaDocument:
    return host_document(stack(more), SECRETS, fleet(**changed), name)


def test_every_address_is_the_hosts_own_or_the_fleets() -> None:
    for name in HOSTS:
        made = document(name)
        assert str(made.address) == HOSTS[name]["address"]
        assert made.agent_token == agent_token(SECRETS.master, name)
    vrrp = document("sip-b").vrrp
    assert vrrp is not None
    assert (str(vrrp.service_address), vrrp.prefix_length) == ("192.0.2.2", 26)
    assert vrrp.peers == (IPv4Address("192.0.2.21"),)
    first = document("sip-a").vrrp
    assert first is not None
    assert first.priority > vrrp.priority
    assert first.router_id == vrrp.router_id


def test_kamailio_is_told_of_the_gateways() -> None:
    service = document("sip-a").service
    assert isinstance(service, KamailioService)
    assert [(one.name, str(one.address), one.free) for one in service.gateways] == [
        ("gw-1", "192.0.2.41", 4),
        ("gw-2", "192.0.2.42", 4),
    ]
    assert str(service.network) == "192.0.2.0/26"


def test_a_gateway_says_its_public_address_and_finds_conference_and_relay() -> None:
    own, public = document("gw-1").service, document("gw-2").service
    assert isinstance(own, GatewayService)
    assert isinstance(public, GatewayService)
    assert str(own.media_address) == "192.0.2.41"
    assert str(public.media_address) == "198.51.100.42"
    assert own.conference.url == "ws://192.0.2.51:8188/"
    assert own.conference.turn_server is not None
    assert str(own.conference.turn_server.address) == "192.0.2.3"


def test_a_relay_reaches_no_private_network_but_that_of_the_demo_conference() -> None:
    public: dict[str, Any] = {"public_addresses": {"coturn": "198.51.100.3"}}
    demo = document("relay", **public).service
    other = document("relay", "conference: {url: 'wss://meet.test/janus'}\n", **public).service
    assert isinstance(demo, CoturnService)
    assert isinstance(other, CoturnService)
    assert (demo.external_ip, [str(net) for net in demo.allowed_peers]) == (None, ["192.0.2.0/26"])
    assert (str(other.external_ip), other.allowed_peers) == ("198.51.100.3", ())


def test_without_a_relay_gateways_are_told_of_none() -> None:
    hosts = {name: host for name, host in HOSTS.items() if name != "relay"}
    service = document("gw-1", hosts=hosts).service
    assert isinstance(service, GatewayService)
    assert service.conference.turn_server is None
    with pytest.raises(FleetError, match="turn: always"):
        document("gw-1", "turn: always\n", hosts=hosts)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hosts": {"a": HOSTS["gw-1"], "b": HOSTS["gw-1"]}}, "another host has the address"),
        ({"network": "198.51.100.0/24"}, "is not in the fleet's network"),
        ({"service_addresses": {"coturn": "192.0.2.3"}}, "service_addresses has none for kamailio"),
        ({"service_addresses": {"kamailio": "192.0.2.41", "coturn": "192.0.2.3"}}, "must be free"),
        ({"service_addresses": FLEET["service_addresses"] | {"gateway": "192.0.2.4"}}, "gateway has none"),
        ({"hosts": {"a": {"role": "gatway", "address": "192.0.2.41"}}}, "role"),
    ],
)
def test_an_impossible_fleet_is_refused_and_the_reason_told(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        fleet(**changed)


@pytest.mark.parametrize(
    ("name", "hosts", "words"),
    [
        ("nobody", HOSTS, "no host 'nobody'; there are: sip-a"),
        ("s", {"s": {"role": "scaler", "address": "192.0.2.9"}}, "nothing to scale"),
        ("gw-1", {"gw-1": HOSTS["gw-1"]}, "no host has the role conference-demo"),
    ],
)
def test_a_document_that_can_not_be_is_refused(name: str, hosts: dict[str, Any], words: str) -> None:
    with pytest.raises(FleetError, match=words):
        document(name, hosts=hosts)


def test_the_given_gateways_are_used_until_a_scaler_tells_of_others() -> None:
    service = document("sip-a").service
    assert isinstance(service, KamailioService)
    fresh = state.with_given(AgentState(), service.gateways)
    assert "sip:192.0.2.42:5060" in dispatcher_list(fresh.gateways)
    told = AgentState(term=3, gateways=Gateways(term=3, gateways=()))
    assert state.with_given(told, service.gateways) == told
    assert state.with_given(AgentState(), ()) == AgentState()


def test_another_list_of_gateways_is_another_configuration() -> None:
    """A running Kamailio is restarted for its configuration, and not for the list alone."""

    def config(hosts: dict[str, Any]) -> str:
        made = document("sip-a", hosts=hosts)
        role = role_of(made, "eth0", Gateways(term=0, gateways=()))
        return next(file.content for path, file in role.render().items() if path.name == "kamailio.cfg")

    fewer = {name: host for name, host in HOSTS.items() if name != "gw-2"}
    assert config(HOSTS) == config(dict(HOSTS))
    assert config(HOSTS) != config(fewer)
