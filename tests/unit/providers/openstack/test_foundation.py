"""What a stack stands on is made once, and the scaler finds it, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sipmediadeploy.providers.base import SERVICE_ADDRESS
from sipmediadeploy.providers.lease import Mark
from sipmediadeploy.providers.openstack import leftovers, replicas
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.ensure import ensure_foundation, remove_foundation
from sipmediadeploy.providers.openstack.foundation import foundation, key, rules
from sipmediadeploy.stack import Limits, Role
from tests.unit.providers.openstack.conftest import SUBNET, Trial
from tests.unit.providers.openstack.fake_cloud import running

LIMITS = Limits(cpus=1.0, memory_mib=512)


@dataclass(frozen=True, slots=True)
class Standing(Trial):
    """A stack whose foundation was made before anything else; its cloud had an external network only."""

    def ensure(self, settings: str = "") -> None:
        """Make the foundation."""
        ensure_foundation(Cloud(self.cloud.credentials), self.stack(settings), SUBNET)

    def changes(self) -> list[Any]:
        """What Neutron was asked to make or to change since requests were cleared."""
        return self.cloud.made("(POST|PUT|DELETE) /network/.*")


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Standing]:
    for module in (replicas, leftovers):
        monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as cloud:
        cloud.external("public")
        cloud.images_and_flavors([str(role) for role in Role])
        yield Standing(cloud)


async def test_the_scaler_finds_the_service_address_and_its_floating_ip(standing: Standing) -> None:
    standing.ensure()
    ips = {ip["description"]: ip for ip in standing.cloud.things["floatingips"]}
    standing.cloud.requests.clear()
    provider, document = standing.provider(), standing.document(Role.KAMAILIO)
    await provider.create(document, LIMITS)
    (port,) = [body["port"] for body in standing.changes()]
    group = next(g for g in standing.cloud.things["security_groups"] if g["name"] == "smd-demo-kamailio")
    assert port["name"] == document.name, "a port of the replica, and none of the pool"
    assert port["security_groups"] == [group["id"]]
    assert port["allowed_address_pairs"] == [{"ip_address": "10.88.0.2"}]
    seen = {str(ip.role): ip for ip in await provider.floating_ips()}
    assert {one.mapped_to for one in seen.values()} == {SERVICE_ADDRESS}
    assert str(seen["kamailio"].address) == ips["smd stack=demo of=kamailio"]["floating_ip_address"]
    assert set(seen) == {"kamailio", "coturn"}


async def test_the_scaler_finds_floating_ips_where_there_are_no_service_addresses(standing: Standing) -> None:
    settings = "service_addresses: reassociate"
    standing.ensure(settings)
    assert [port["device_id"] for port in standing.cloud.things["ports"]] == [
        standing.cloud.things["routers"][0]["id"]
    ]
    standing.cloud.requests.clear()
    provider = standing.provider(settings)
    made = await provider.create(standing.document(Role.COTURN, settings=settings), LIMITS)
    assert [list(body) for body in standing.changes()] == [["port"]], "no other floating IP"
    (ip,) = [one for one in await provider.floating_ips() if one.role is Role.COTURN]
    assert ip.mapped_to is None
    await provider.map_floating_ip(ip.address, made.id)


async def test_the_scalers_find_the_network_of_their_lease(standing: Standing) -> None:
    standing.ensure()
    made = await standing.provider().lease().create("one", 1, Mark(0))
    assert await standing.provider().lease().read() == made


def test_what_is_there_is_not_made_again(standing: Standing) -> None:
    standing.ensure()
    standing.cloud.requests.clear()
    standing.ensure()
    assert standing.changes() == []


def test_a_group_gets_the_rules_that_were_added_to_the_stack_file(standing: Standing) -> None:
    standing.ensure()
    standing.cloud.requests.clear()
    standing.ensure("ssh_from: [192.0.2.0/25], api_from: [192.0.2.128/25]")
    made = [body["security_group_rule"] for body in standing.changes()]
    opened = [(rule["port_range_min"], rule["port_range_max"], rule["remote_ip_prefix"]) for rule in made]
    inside = [(22, 22, str(SUBNET))] * 5  # by ssh -J through a replica that has a public address
    assert sorted(opened) == inside + [(22, 22, "192.0.2.0/25")] * 5 + [(8843, 8843, "192.0.2.128/25")]


def test_an_operators_network_that_is_the_stacks_own_is_let_in_once(standing: Standing) -> None:
    found = rules(standing.stack(f"ssh_from: [{SUBNET}]"), Role.GATEWAY, SUBNET)
    assert [rule.source for rule in found if rule.first_port == 22] == [str(SUBNET)]
    assert not [rule for rule in rules(standing.stack(), Role.GATEWAY, SUBNET) if rule.first_port == 22]


def test_an_operators_network_is_left_as_it_is(standing: Standing) -> None:
    theirs = standing.cloud.add("networks", name="inner")
    standing.cloud.add("subnets", network_id=theirs["id"], cidr=str(SUBNET), ip_version=4)
    standing.ensure("network: inner")
    assert [one["name"] for one in standing.cloud.things["networks"]] == ["public", "inner", "smd-demo-lease"]
    assert standing.cloud.things["routers"] == []
    assert {port["network_id"] for port in standing.cloud.things["ports"]} == {theirs["id"]}


def test_it_is_removed_again(standing: Standing) -> None:
    standing.ensure()
    cloud = Cloud(standing.cloud.credentials)
    leftovers.remove_stack(cloud, "demo")
    remove_foundation(cloud, standing.stack())
    kinds = ("routers", "ports", "floatingips", "security_groups")
    assert {kind: standing.cloud.things[kind] for kind in kinds} == {kind: [] for kind in kinds}
    assert [one["name"] for one in standing.cloud.things["networks"]] == ["public"]


def test_the_world_reaches_sip_turn_and_media_only(standing: Standing) -> None:
    said = foundation(standing.stack("ssh_from: [192.0.2.0/24], api_from: [192.0.2.0/24]"), SUBNET).rules
    assert all(key(rule) == name for name, rule in said.items())
    assert sorted(name for name, rule in said.items() if rule.source == "0.0.0.0/0") == [
        "conference-demo tcp 443 from 0.0.0.0/0",
        "conference-demo udp 40000-40399 from 0.0.0.0/0",
        "coturn tcp 3478 from 0.0.0.0/0",
        "coturn udp 3478 from 0.0.0.0/0",
        "coturn udp 49160-49559 from 0.0.0.0/0",
        "gateway udp 20000-20255 from 0.0.0.0/0",
        "kamailio tcp 5060 from 0.0.0.0/0",
        "kamailio udp 5060 from 0.0.0.0/0",
    ]


def test_gateways_have_all_the_ports_that_their_calls_may_ever_need(standing: Standing) -> None:
    text = "conference: {platform: jitsi, url: 'https://meet.example.org'}\npools: {gateway: {calls: 64}}\n"
    document = standing.document(Role.GATEWAY, slot=7, text=text)
    first, last = getattr(document.service, "rtp_ports")  # noqa: B009
    (media,) = [
        r
        for r in foundation(standing.stack(), SUBNET).rules.values()
        if r.description == "media of terminals"
    ]
    assert (media.first_port, media.last_port) == (first, last)


def test_without_a_demo_conference_there_is_no_group_for_it(standing: Standing) -> None:
    assert "conference-demo" in foundation(standing.stack(), SUBNET).security_groups
    other = standing.stack(text="conference: {platform: jitsi, url: 'https://meet.example.org'}\n")
    said = foundation(other, SUBNET)
    assert "conference-demo" not in said.security_groups
    assert {rule.security_group for rule in said.rules.values()} == set(said.security_groups)
