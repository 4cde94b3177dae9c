"""What the cloud is asked to make."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
import yaml

from sipmediadeploy.protocol.replica import (
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
)
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import Life, ProviderError
from sipmediadeploy.providers.openstack import bodies, marks
from sipmediadeploy.providers.openstack.bodies import Parts, Public
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import OpenStack, Role, parse_stack
from tests.unit.providers.openstack.conftest import SMALLEST, SUBNET

PARTS = Parts("image", "flavor", "network", "subnet", ("sg",), "group")
CONFERENCE = "conference: {url: 'wss://rooms.example.org/'}\n"


def document(role: Role, more: str = CONFERENCE) -> ReplicaDocument:
    stack = parse_stack(SMALLEST + more)
    return make_document(stack, SUBNET, Secrets(master="master"), "v1", role, 3, f"demo-{role}-7")


def test_a_port_has_its_address_pair_from_the_start() -> None:
    body = bodies.replica_port(document(Role.KAMAILIO), PARTS, IPv4Address("10.88.0.2"))
    assert body == {
        "port": {
            "name": "demo-kamailio-7",
            "description": "smd stack=demo of=replica",
            "network_id": "network",
            "fixed_ips": [{"subnet_id": "subnet", "ip_address": "10.88.0.19"}],
            "security_groups": ["sg"],
            "allowed_address_pairs": [{"ip_address": "10.88.0.2"}],
        }
    }
    assert "allowed_address_pairs" not in bodies.replica_port(document(Role.GATEWAY), PARTS, None)["port"]


def test_a_server_from_an_image() -> None:
    marked = marks.metadata(document(Role.GATEWAY), "v1", "", 5.0)
    body = bodies.server(document(Role.GATEWAY), PARTS, ["a", "b"], OpenStack(), marked, "data")
    assert body == {
        "server": {
            "name": "demo-gateway-7",
            "flavorRef": "flavor",
            "networks": [{"port": "a"}, {"port": "b"}],
            "metadata": marked,
            "tags": ["smd.stack=demo"],
            "user_data": "data",
            "imageRef": "image",
        },
        "os:scheduler_hints": {"group": "group"},
    }


def test_a_server_from_a_volume_with_a_config_drive_in_a_zone_without_a_group() -> None:
    settings = OpenStack(volume_gib=12, config_drive=True, key_pair="ops", zones=("az2",))
    marked = marks.metadata(document(Role.GATEWAY), "v1", "az2", 5.0)
    body = bodies.server(document(Role.GATEWAY), replace(PARTS, group=None), ["a"], settings, marked, "data")
    assert "os:scheduler_hints" not in body
    server = body["server"]
    assert "imageRef" not in server
    assert (server["availability_zone"], server["config_drive"], server["key_name"]) == ("az2", True, "ops")
    (volume,) = server["block_device_mapping_v2"]
    assert (volume["uuid"], volume["source_type"], volume["destination_type"]) == ("image", "image", "volume")
    assert (volume["volume_size"], volume["boot_index"], volume["delete_on_termination"]) == (12, 0, True)


@pytest.mark.parametrize("role", [Role.KAMAILIO, Role.COTURN, Role.GATEWAY])
def test_user_data_writes_the_document_for_root_only_and_has_no_secret_but_the_replicas_own(
    role: Role,
) -> None:
    told = document(role)
    data = yaml.safe_load(base64.b64decode(bodies.user_data(told)))
    (file,) = data["write_files"]
    assert (file["path"], file["permissions"], file["owner"]) == (
        "/etc/smd/replica.yaml",
        "0600",
        "root:root",
    )
    text = gzip.decompress(base64.b64decode(file["content"])).decode()
    assert ReplicaDocument.model_validate(yaml.safe_load(text)) == told
    assert "master" not in text


def test_user_data_that_the_cloud_would_not_take_is_said() -> None:
    import random

    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=80_000))
    conference = f"conference: {{platform: jitsi, url: 'https://x.org', ca: '{noise}'}}\n"
    with pytest.raises(ProviderError, match=r"demo-gateway-7: its document is larger .*ca_file"):
        bodies.user_data(document(Role.GATEWAY, conference))


def test_replicas_are_told_of_the_public_addresses() -> None:
    pool, own = IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2")
    kamailio = bodies.with_public(document(Role.KAMAILIO), Public(pool)).service
    assert isinstance(kamailio, KamailioService)
    assert kamailio.advertise == pool
    coturn = bodies.with_public(document(Role.COTURN), Public(pool)).service
    assert isinstance(coturn, CoturnService)
    assert coturn.external_ip == pool
    gateway = bodies.with_public(document(Role.GATEWAY), Public(own=own)).service
    assert isinstance(gateway, GatewayService)
    assert gateway.media_address == own
    inside = bodies.with_public(document(Role.GATEWAY), Public()).service
    assert isinstance(inside, GatewayService)
    assert inside.media_address == IPv4Address("10.88.0.67")


def test_a_relay_beside_the_demo_conference_is_told_of_no_other_address() -> None:
    beside = document(Role.COTURN, "")
    assert bodies.with_public(beside, Public(IPv4Address("198.51.100.1"))) == beside


def test_metadata_is_all_that_an_inventory_needs() -> None:
    marked = marks.metadata(document(Role.GATEWAY), "v1", "az1", 5.25)
    server = {"id": "s", "status": "ACTIVE", "metadata": marked}
    record = marks.record(server, "demo")
    assert record is not None
    assert (record.name, record.role, record.slot, record.zone) == ("demo-gateway-7", Role.GATEWAY, 3, "az1")
    assert (record.created_at, record.version, record.life) == (5.25, "v1", Life.RUNNING)
    assert record.config_hash == document(Role.GATEWAY).service_hash()
    assert marks.record(server, "other") is None
    assert marks.record(server | {"metadata": {marks.STACK: "demo"}}, "demo") is None


@pytest.mark.parametrize(
    ("status", "power", "life"),
    [
        ("BUILD", 0, Life.STARTING),
        ("ACTIVE", 1, Life.RUNNING),
        ("PAUSED", 3, Life.RUNNING),
        ("REBOOT", 1, Life.RUNNING),
        ("UNKNOWN", 0, Life.RUNNING),
        ("SHUTOFF", 4, Life.STOPPED),
        ("DELETED", 0, Life.STOPPED),
        ("SHELVED_OFFLOADED", 4, Life.STOPPED),
        ("ERROR", 0, Life.STOPPED),
        ("ERROR", 1, Life.FAILED),
    ],
)
def test_the_life_of_a_server(status: str, power: int, life: Life) -> None:
    assert marks.life({"status": status, "OS-EXT-STS:power_state": power}) is life


def test_groups_stay_within_their_quota_of_members() -> None:
    names = [marks.group_name("demo", Role.GATEWAY, slot) for slot in (0, 9, 10, 25)]
    assert names == ["smd-demo-gateway", "smd-demo-gateway", "smd-demo-gateway-1", "smd-demo-gateway-2"]
