from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.node.roles.base import RUN, NodeRole
from sipmediadeploy.node.roles.coturn.role import render_config as render_coturn
from sipmediadeploy.node.roles.gateway.role import judge
from sipmediadeploy.node.roles.kamailio.gateways import dispatcher_list, silent_gateways
from sipmediadeploy.node.roles.registry import role_of
from sipmediadeploy.node.service_address import is_local
from sipmediadeploy.protocol.agent import Gateway, Gateways
from sipmediadeploy.protocol.replica import CoturnService, KamailioService, ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import OpenStack, Role, Stack

MASTER = "the-master-secret"
NONE = Gateways(term=0, gateways=())


def document(role: Role, stack: Stack | None = None) -> ReplicaDocument:
    stack = stack or Stack(name="demo", domain="sip.example.org")
    return make_document(
        stack, IPv4Network("172.30.5.0/24"), Secrets(master=MASTER), "1", role, 0, f"demo-{role}-0"
    )


def role(role: Role, stack: Stack | None = None) -> NodeRole:
    return role_of(document(role, stack), "eth0", NONE)


@pytest.mark.parametrize("which", list(Role))
def test_every_role_renders_its_files_below_run_and_readable_by_their_user_only(which: Role) -> None:
    for path, file in role(which).render().items():
        assert path.is_relative_to(RUN)
        assert file.mode == 0o600


@pytest.mark.parametrize("which", [Role.KAMAILIO, Role.COTURN, Role.GATEWAY, Role.CONFERENCE_DEMO])
def test_no_file_holds_the_agents_token_or_the_master_secret(which: Role) -> None:
    token = document(which).agent_token
    for file in role(which).render().values():
        assert token not in file.content
        assert MASTER not in file.content


def test_a_kamailio_has_no_secret_at_all() -> None:
    coturn = document(Role.COTURN).service
    assert isinstance(coturn, CoturnService)
    assert all(coturn.secret not in file.content for file in role(Role.KAMAILIO).render().values())


def test_keepalived_is_told_the_slot_s_priority_its_peers_and_the_interface() -> None:
    config = role(Role.KAMAILIO).render()[RUN / "keepalived" / "keepalived.conf"].content
    for line in ("priority 200", "unicast_src_ip 172.30.5.16", "172.30.5.17", "172.30.5.2/24 dev eth0"):
        assert line in config


def test_coturn_relays_to_allowed_private_networks_only() -> None:
    service = CoturnService(
        service_address=IPv4Address("172.30.5.3"),
        realm="r",
        secret="s",
        allowed_peers=(IPv4Network("172.30.5.0/24"),),
    )
    config = render_coturn(service, Path("/run/x"))
    assert "denied-peer-ip=172.16.0.0-172.31.255.255" in config
    assert "denied-peer-ip=127.0.0.0-127.255.255.255" in config
    assert "allowed-peer-ip=172.30.5.0-172.30.5.255" in config
    assert "external-ip" not in config


def test_a_gateway_without_free_places_gets_no_new_call() -> None:
    listed = dispatcher_list(
        Gateways(
            term=1,
            gateways=(
                Gateway(name="a", address=IPv4Address("10.0.0.1"), free=3),
                Gateway(name="b", address=IPv4Address("10.0.0.2"), free=0),
                Gateway(name="c", address=IPv4Address("10.0.0.3"), free=500),
            ),
        ),
        frozenset({"sip:10.0.0.1:5060"}),
    )
    assert listed.splitlines()[1:] == [
        "1 sip:10.0.0.1:5060 9 0 rweight=3",
        "2 sip:10.0.0.1:5060 0 0 rweight=3",
        "1 sip:10.0.0.3:5060 8 0 rweight=100",
        "2 sip:10.0.0.3:5060 0 0 rweight=100",
    ]


def test_silent_gateways_are_read_from_kamailios_own_listing() -> None:
    def target(uri: str, flags: str) -> dict[str, object]:
        return {"DEST": {"URI": uri, "FLAGS": flags}}

    listing = {
        "RECORDS": [{"SET": {"ID": 1, "TARGETS": [target("sip:10.0.0.1:5060", "IP"), target("sip:b", "AP")]}}]
    }
    assert silent_gateways(listing) == {"sip:10.0.0.1:5060"}
    assert silent_gateways({"RECORDS": "?"}) == frozenset()


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        ({"calls": 0, "capacity": 4, "ready_workers": 1, "draining": False, "retired": False}, True),
        ({"calls": 4, "capacity": 4, "ready_workers": 0, "draining": False, "retired": False}, True),
        ({"calls": 1, "capacity": 4, "ready_workers": 0, "draining": False, "retired": False}, False),
        ({"calls": 1, "capacity": 4, "ready_workers": 0, "draining": True, "retired": False}, True),
        ({"calls": 1}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_gateway_is_healthy_while_a_worker_is_ready_for_the_next_call(status: object, ok: bool) -> None:
    assert judge(status).ok is ok


def test_only_an_address_of_this_machine_counts_as_held() -> None:
    trie = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 172.30.5.2
        /32 host LOCAL
     |-- 172.30.5.25
        /32 host LOCAL
     |-- 172.30.5.0
        /24 link UNICAST
"""
    assert is_local(IPv4Address("172.30.5.2"), trie)
    assert not is_local(IPv4Address("172.30.5.0"), trie)
    assert not is_local(IPv4Address("172.30.5.5"), trie)


@pytest.mark.parametrize("which", [Role.KAMAILIO, Role.COTURN])
def test_where_no_address_can_move_a_replica_answers_at_its_own_and_runs_no_keepalived(which: Role) -> None:
    settings = OpenStack(service_addresses="reassociate")
    stack = Stack(name="demo", domain="sip.example.org", provider="openstack", openstack=settings)
    made, one = document(which, stack), role(which, stack)
    assert made.vrrp is None
    assert isinstance(made.service, CoturnService | KamailioService)
    assert made.service.service_address == made.address
    assert one.services == (str(which),)
    listening = [file.content for file in one.render().values()]
    assert not any("172.30.5.2:" in text or "172.30.5.3\n" in text for text in listening)
    kamailio = [line for text in listening for line in text.splitlines() if line.startswith("listen=")]
    assert len(kamailio) == len(set(kamailio)), "no socket is there twice"
