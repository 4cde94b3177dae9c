"""The provider against a fake cloud, through openstacksdk and HTTP."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import yaml

from sipmediadeploy.providers.base import SERVICE_ADDRESS, Life, Provider, ProviderError
from sipmediadeploy.providers.openstack import errors, leftovers, marks
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.provider import OpenStackProvider
from sipmediadeploy.stack import Limits, Role
from tests.unit.providers.openstack.conftest import Trial
from tests.unit.providers.openstack.fake_cloud import PASSWORD, Fault

LIMITS = Limits(cpus=2.0, memory_mib=1024)
SERVERS = r"POST /compute/v2.1/servers"


def conforms(provider: OpenStackProvider) -> Provider:
    """Checked by mypy: it is a provider."""
    return provider


def document_of(body: Any) -> Any:
    """What a server was told."""
    data = yaml.safe_load(base64.b64decode(body["server"]["user_data"]))
    return yaml.safe_load(gzip.decompress(base64.b64decode(data["write_files"][0]["content"])))


def left(trial: Trial) -> list[str]:
    """What is there of replicas."""
    things = trial.cloud.things
    return [str(one.get("name")) for kind in ("servers", "ports", "floatingips") for one in things[kind]]


async def test_a_replica_is_made_found_and_deleted(trial: Trial) -> None:
    provider, document = trial.provider(), trial.document(Role.KAMAILIO)
    made = await provider.create(document, LIMITS)
    assert await provider.inventory() == [made]
    assert (made.name, made.life, made.config_hash) == (document.name, Life.RUNNING, document.service_hash())
    (server,) = trial.cloud.made(SERVERS)
    images = {one["id"]: one["smd_version"] for one in trial.cloud.things["images"]}
    assert images[server["server"]["imageRef"]] == "v1"
    flavors = {one["id"]: one["name"] for one in trial.cloud.things["flavors"]}
    assert flavors[server["server"]["flavorRef"]] == "medium", "the smallest that has the limits"
    (group,) = trial.cloud.things["server_groups"]
    assert (group["name"], group["policies"]) == ("smd-demo-kamailio", ["soft-anti-affinity"])
    assert server["os:scheduler_hints"] == {"group": group["id"]}
    await provider.delete(made.id)
    assert await provider.inventory() == []
    assert left(trial) == ["smd-demo-kamailio", "None"], "the pool's own port and floating IP stay"
    await provider.delete(made.id)


@pytest.mark.parametrize(
    ("of_the_image", "flavor"),
    [
        ({"min_disk": 10, "size": 2**30}, "medium"),
        ({"min_disk": 11}, "roomy"),
        ({"size": 11 * 2**30 - 5}, "roomy"),
        ({"size": 2**30, "virtual_size": 11 * 2**30}, "roomy"),
        ({"min_ram": 2049}, "large"),
    ],
)
async def test_a_flavour_has_room_for_the_image(
    trial: Trial, of_the_image: dict[str, int], flavor: str
) -> None:
    trial.cloud.add("flavors", name="roomy", vcpus=2, ram=4096, disk=20)
    trial.cloud.add("flavors", name="roomier", vcpus=2, ram=4096, disk=40)
    for image in trial.cloud.things["images"]:
        image.update(of_the_image)
    flavors = {one["id"]: one["name"] for one in trial.cloud.things["flavors"]}
    if "min_ram" in of_the_image:
        trial.cloud.things["flavors"][:] = [
            one for one in trial.cloud.things["flavors"] if one["ram"] != 4096
        ]
    await trial.provider().create(trial.document(Role.KAMAILIO), LIMITS)
    (server,) = trial.cloud.made(SERVERS)
    assert flavors[server["server"]["flavorRef"]] == flavor


async def test_that_no_flavour_has_room_for_the_image_is_said(trial: Trial) -> None:
    for image in trial.cloud.things["images"]:
        image["min_disk"] = 11
    with pytest.raises(
        errors.Missing, match="the 11 GB of disk that the image needs, for kamailio; name one"
    ):
        await trial.provider().create(trial.document(Role.KAMAILIO), LIMITS)
    await trial.provider("volume_gib: 12").create(trial.document(Role.KAMAILIO), LIMITS)


async def test_a_pool_has_one_port_with_its_address_and_one_floating_ip_for_good(trial: Trial) -> None:
    provider = trial.provider()
    await asyncio.gather(*(provider.create(trial.document(Role.KAMAILIO, slot), LIMITS) for slot in range(3)))
    (port,) = [p for p in trial.cloud.things["ports"] if p["description"] == "smd stack=demo of=kamailio"]
    assert port["fixed_ips"][0]["ip_address"] == "10.88.0.2"
    (ip,) = trial.cloud.things["floatingips"]
    assert ip["port_id"] == port["id"]
    (seen,) = await provider.floating_ips()
    assert (seen.role, str(seen.address), seen.mapped_to) == (
        Role.KAMAILIO,
        ip["floating_ip_address"],
        SERVICE_ADDRESS,
    )
    told = document_of(trial.cloud.made(SERVERS)[0])
    assert told["service"]["advertise"] == ip["floating_ip_address"]


async def test_a_detached_floating_ip_is_mapped_again_by_one_request(trial: Trial) -> None:
    provider = trial.provider()
    await provider.create(trial.document(Role.COTURN), LIMITS)
    (ip,) = trial.cloud.things["floatingips"]
    ip["port_id"] = None
    (seen,) = await provider.floating_ips()
    assert seen.mapped_to is None
    trial.cloud.requests.clear()
    await provider.map_floating_ip(seen.address, SERVICE_ADDRESS)
    assert [method for method, path, _ in trial.cloud.requests if "floatingips/" in path] == ["PUT"]
    (seen,) = await provider.floating_ips()
    assert seen.mapped_to == SERVICE_ADDRESS


async def test_without_address_pairs_the_floating_ip_is_mapped_to_replicas(trial: Trial) -> None:
    provider = trial.provider("service_addresses: reassociate")
    assert not provider.service_addresses
    made = [await provider.create(trial.document(Role.KAMAILIO, slot), LIMITS) for slot in (0, 1)]
    assert all(
        "allowed_address_pairs" not in body["port"] for body in trial.cloud.made("POST /network/v2.0/ports")
    )
    (seen,) = await provider.floating_ips()
    assert seen.mapped_to is None
    for record in made:
        await provider.map_floating_ip(seen.address, record.id)
        (now,) = await provider.floating_ips()
        assert now.mapped_to == record.id
    with pytest.raises(errors.Missing, match="no floating IP of stack demo"):
        await provider.map_floating_ip(IPv4Address("192.0.2.9"), made[0].id)


async def test_the_scalers_have_a_floating_ip_that_goes_with_the_leader(trial: Trial) -> None:
    provider = trial.provider()
    made = [await provider.create(trial.document(Role.SCALER, slot), LIMITS) for slot in (0, 1)]
    assert await provider.floating_ips() == [], "replicas are made without waiting for it"
    for _ in range(2):
        await provider.make_floating_ip(Role.SCALER, made[0].id)
    (ip,) = trial.cloud.things["floatingips"]
    assert ip["description"] == "smd stack=demo of=scaler"
    (seen,) = await provider.floating_ips()
    assert (seen.role, seen.mapped_to) == (Role.SCALER, made[0].id)
    trial.cloud.requests.clear()
    await provider.map_floating_ip(seen.address, made[1].id)
    assert [method for method, path, _ in trial.cloud.requests if "floatingips/" in path] == ["PUT"]
    (seen,) = await provider.floating_ips()
    assert seen.mapped_to == made[1].id
    await provider.delete(made[1].id)
    assert len(trial.cloud.things["floatingips"]) == 1, "it stays for the next leader"
    await provider.remove_all()
    assert trial.cloud.things["floatingips"] == []


async def test_where_the_api_has_no_public_address_that_is_the_providers_to_say(trial: Trial) -> None:
    allowed = "api_from: [198.51.100.0/24]"
    assert trial.provider(allowed).api_floating_ip
    assert trial.provider("ssh_from: [198.51.100.0/24]").api_floating_ip
    assert not trial.provider().api_floating_ip, "nobody may come to it"
    assert not trial.provider(f"{allowed}, api: none").api_floating_ip
    record = await trial.provider().create(trial.document(Role.SCALER), LIMITS)
    trial.cloud.things["networks"] = [n for n in trial.cloud.things["networks"] if n["name"] != "public"]
    with pytest.raises(errors.Missing, match=r"no external network.*openstack\.api: none"):
        await trial.provider().make_floating_ip(Role.SCALER, record.id)


async def test_without_address_pairs_gateways_reach_the_relay_by_its_floating_ip(trial: Trial) -> None:
    settings = "service_addresses: reassociate"
    await trial.provider(settings).create(trial.document(Role.GATEWAY, settings=settings), LIMITS)
    (ip,) = [one for one in trial.cloud.things["floatingips"] if one["description"].endswith("of=coturn")]
    told = document_of(trial.cloud.made(SERVERS)[0])
    assert told["service"]["conference"]["turn_server"]["address"] == ip["floating_ip_address"]


async def test_the_ports_that_the_cloud_let_go_of_go_with_a_server_in_error(trial: Trial) -> None:
    made = await trial.provider().create(trial.document(Role.GATEWAY), LIMITS)
    for port in trial.cloud.things["ports"]:
        port["device_id"] = ""
    trial.cloud.server_status = "ERROR"
    await trial.provider().delete(made.id)
    assert left(trial) == []


@pytest.mark.parametrize(
    ("choice", "networks", "address"),
    [("none", 1, "10.88.0.64"), ("floating", 1, "203."), ("network", 2, "198.51.100.")],
)
async def test_a_gateway_is_told_of_its_public_address(
    trial: Trial, choice: str, networks: int, address: str
) -> None:
    provider = trial.provider(f"public_address: {choice}")
    made = await provider.create(trial.document(Role.GATEWAY), LIMITS)
    (body,) = trial.cloud.made(SERVERS)
    assert len(body["server"]["networks"]) == networks
    told = document_of(body)
    assert told["service"]["media_address"].startswith(address)
    assert made.config_hash == trial.document(Role.GATEWAY).service_hash(), "it is not outdated by that"
    await provider.delete(made.id)
    assert left(trial) == []


async def test_a_server_that_is_not_of_the_stack_is_left_alone(trial: Trial) -> None:
    other = trial.cloud.add("servers", name="demo-gateway-0", status="ACTIVE", metadata={}, tags=[])
    provider = trial.provider()
    assert await provider.inventory() == []
    with pytest.raises(ProviderError, match="not of stack demo: left alone"):
        await provider.delete(other["id"])
    port = trial.cloud.add("ports", name="demo-gateway-0", description="", device_id="", network_id="x")
    await provider.remove_all()
    assert other in trial.cloud.things["servers"]
    assert port in trial.cloud.things["ports"]


async def test_all_of_a_stack_is_removed(trial: Trial) -> None:
    provider = trial.provider()
    for role in (Role.KAMAILIO, Role.GATEWAY, Role.SCALER):
        await provider.create(trial.document(role), LIMITS)
    assert await provider.remove_all() > 0
    assert left(trial) == []
    assert trial.cloud.things["server_groups"] == []


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (
            Fault(
                SERVERS,
                403,
                '{"forbidden": {"message": "Quota exceeded for instances: Requested 1, used 9 of 9"}}',
            ),
            errors.QuotaExceeded,
            "demo-gateway-0: the project's quota is used up .*used 9 of 9.*higher quota",
        ),
        (
            Fault(
                "POST .*/ports",
                409,
                '{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for: port."}}',
            ),
            errors.QuotaExceeded,
            "quota is used up",
        ),
        (Fault(SERVERS, 403), errors.NotAllowed, "may not do this.*role is missing"),
        (
            Fault(SERVERS, 400, '{"badRequest": {"message": "Invalid key_name provided."}}'),
            errors.Refused,
            "refuses the request .*Invalid key_name",
        ),
        (
            Fault(SERVERS, 409, '{"conflictingRequest": {"message": "it is locked"}}'),
            errors.Conflict,
            "it is locked",
        ),
        (Fault(SERVERS, 429, "", {"Retry-After": "7"}), errors.TooManyRequests, "again after 7 s"),
        (Fault(SERVERS, 413, "", {"Retry-After": "7"}), errors.TooManyRequests, "again after 7 s"),
        (Fault(SERVERS, 503, "<html>busy</html>"), errors.Unavailable, "has an error .503: <html>busy"),
        (Fault(SERVERS, 406), errors.Refused, "too old"),
        (Fault(SERVERS, 401, times=2), errors.NotAllowed, "does not accept the credentials"),
    ],
)
async def test_an_error_says_what_to_do_and_nothing_is_left(
    trial: Trial, fault: Fault, kind: type[ProviderError], words: str
) -> None:
    trial.cloud.faults.append(fault)
    with pytest.raises(kind, match=words) as caught:
        await trial.provider().create(trial.document(Role.GATEWAY), LIMITS)
    assert caught.value.retry_after_s == (7.0 if "Retry-After" in fault.headers else None)
    assert PASSWORD not in str(caught.value)
    if "Retry-After" not in fault.headers:  # else the cloud is left alone, and it is swept up later
        assert left(trial) == []


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("No valid host was found. ", errors.NoValidHost, "no host has room for flavour medium in zone az1"),
        ("Quota exceeded for volumes", errors.QuotaExceeded, "quota"),
        ("Build of instance aborted: no boot", errors.Unavailable, "could not make the server .Build of"),
    ],
)
async def test_a_server_that_fails_while_it_is_built_is_removed_and_its_fault_told(
    trial: Trial, fault: str, kind: type[ProviderError], words: str
) -> None:
    trial.cloud.server_status, trial.cloud.server_fault = "ERROR", fault
    with pytest.raises(kind, match=words):
        await trial.provider("zones: [az1]").create(trial.document(Role.GATEWAY), LIMITS, "az1")
    assert left(trial) == []


async def test_a_server_whose_answer_was_lost_is_removed(trial: Trial) -> None:
    trial.cloud.faults.append(Fault(SERVERS, 502, done_anyway=True))
    with pytest.raises(errors.Unavailable):
        await trial.provider().create(trial.document(Role.GATEWAY), LIMITS)
    assert len(trial.cloud.made("DELETE /compute/v2.1/servers/.*")) == 1
    assert left(trial) == []


async def test_what_could_not_be_removed_while_the_cloud_was_away_is_not_in_the_way_afterwards(
    trial: Trial,
) -> None:
    provider, document = trial.provider(), trial.document(Role.GATEWAY)
    trial.cloud.faults.append(Fault(SERVERS, 503))
    trial.cloud.faults.append(Fault("GET .*/(servers/detail|ports)", 503, times=3))
    with pytest.raises(errors.Unavailable):
        await provider.create(document, LIMITS)
    trial.cloud.faults.clear()
    assert len(trial.cloud.things["ports"]) == 1
    await provider.create(document, LIMITS)
    assert len(trial.cloud.things["ports"]) == 1


async def test_the_port_stays_of_a_server_of_which_it_is_not_known_whether_it_is_there(trial: Trial) -> None:
    trial.cloud.faults.append(Fault(SERVERS, 502))
    trial.cloud.faults.append(Fault("GET .*/servers/detail", 503))
    with pytest.raises(errors.Unavailable):
        await trial.provider().create(trial.document(Role.GATEWAY), LIMITS)
    assert trial.cloud.made("DELETE .*/ports/.*") == []


async def test_a_server_that_came_up_although_its_creation_failed_is_left_alone(trial: Trial) -> None:
    provider = trial.provider()
    trial.cloud.faults.append(Fault(SERVERS, 502, done_anyway=True))
    trial.cloud.faults.append(Fault("GET .*/(servers/detail|ports)", 503, times=3))
    with pytest.raises(errors.Unavailable):
        await provider.create(trial.document(Role.GATEWAY), LIMITS)
    trial.cloud.faults.clear()
    await provider.create(trial.document(Role.GATEWAY, 1), LIMITS)
    assert len(await provider.inventory()) == 2
    assert len(trial.cloud.things["ports"]) == 2


@pytest.mark.parametrize(
    ("settings", "removed", "words"),
    [
        ("", "images", "image smd-gateway of version v1 is missing .*openstack.images.gateway"),
        ("images: {gateway: mine}", "", "image mine is missing"),
        (
            "flavors: {gateway: huge}",
            "",
            "huge is missing .there are: large, medium, small.; correct openstack",
        ),
        ("", "flavors", "no flavour has 2 CPUs and 1024 MiB for gateway"),
        ("network: inner", "", "network inner is missing; make it, or correct openstack.network"),
        (
            "external_network: outer",
            "",
            "external network outer is missing; correct openstack.external_network",
        ),
        ("", "security_groups", "security group smd-demo-gateway is missing; terraform apply"),
    ],
)
async def test_what_is_missing_is_named_before_anything_is_made(
    trial: Trial, settings: str, removed: str, words: str
) -> None:
    if removed:
        trial.cloud.things[removed].clear()
    with pytest.raises(errors.Missing, match=words):
        await trial.provider(settings).create(trial.document(Role.GATEWAY), LIMITS)
    assert left(trial) == []


async def test_two_external_networks_need_a_choice(trial: Trial) -> None:
    trial.cloud.add("networks", name="public2", **{"router:external": True})
    with pytest.raises(errors.Conflict, match=r"public, public2.*openstack.external_network"):
        await trial.provider().create(trial.document(Role.GATEWAY), LIMITS)
    await trial.provider("external_network: public").create(trial.document(Role.GATEWAY), LIMITS)


async def test_an_expired_token_is_renewed_and_the_request_repeated(trial: Trial) -> None:
    provider = trial.provider()
    await provider.inventory()
    trial.cloud.valid_tokens.clear()
    assert await provider.inventory() == []
    assert len(trial.cloud.made("POST /v3/auth/tokens")) == 2


async def test_a_cloud_that_wants_to_be_left_alone_is(trial: Trial) -> None:
    provider = trial.provider()
    await provider.inventory()
    trial.cloud.faults.append(Fault("GET .*/servers/detail", 429, "", {"Retry-After": "30"}))
    with pytest.raises(errors.TooManyRequests):
        await provider.inventory()
    before = len(trial.cloud.requests)
    with pytest.raises(errors.TooManyRequests, match="left alone for 30 s") as caught:
        await provider.inventory()
    assert caught.value.retry_after_s == pytest.approx(30, abs=1)
    assert len(trial.cloud.requests) == before


async def test_a_cloud_that_does_not_answer_is_told_from_one_that_is_not_there(trial: Trial) -> None:
    there = trial.cloud.credentials()
    nowhere = json.loads(json.dumps(there).replace(trial.cloud.url, "http://127.0.0.1:9"))
    with pytest.raises(errors.Unavailable, match="can't be reached"):
        Cloud(lambda: nowhere).get("looking", "network", "/ports")
    cloud = Cloud(lambda: there, timeout_s=0.2)
    cloud.get("looking", "network", "/ports")
    with (
        trial.cloud.lock,
        pytest.raises(errors.Unavailable, match="looking: no answer from the cloud in time"),
    ):
        cloud.get("looking", "network", "/ports")


async def test_long_lists_are_read_to_their_end(trial: Trial) -> None:
    trial.cloud.page = 2
    for number in range(7):
        marked = marks.metadata(trial.document(Role.GATEWAY, number), "v1", "", 0.0)
        tags = [marks.server_tag("demo")]
        trial.cloud.add("servers", name=f"x{number}", status="ACTIVE", metadata=marked, tags=tags)
    assert len(await trial.provider().inventory()) == 7
    made = await trial.provider().create(trial.document(Role.KAMAILIO), LIMITS)
    assert made.role is Role.KAMAILIO
    for number in range(5):
        trial.cloud.add(
            "ports", name=f"p{number}", description=marks.replica_mark("demo"), device_id="", network_id="n"
        )
    cloud = Cloud(trial.cloud.credentials)
    assert leftovers.sweep(cloud, "demo", frozenset(), time.time() + 400) == 5


async def test_what_a_dead_scaler_left_in_the_way_is_removed_when_it_is_old_enough(trial: Trial) -> None:
    provider, document = trial.provider("public_address: none"), trial.document(Role.GATEWAY)
    network = next(one for one in trial.cloud.things["networks"] if one["name"] == "smd-demo")
    port = trial.cloud.add(
        "ports",
        name="demo-gateway-5",
        description=marks.replica_mark("demo"),
        network_id=network["id"],
        device_id="",
        fixed_ips=[{"ip_address": str(document.address)}],
    )
    with pytest.raises(errors.Conflict, match=f"{document.address} is in use by the port demo-gateway-5"):
        await provider.create(document, LIMITS)
    old = datetime.now(UTC) - timedelta(seconds=60)
    port["created_at"] = old.strftime("%Y-%m-%dT%H:%M:%SZ")
    made = await provider.create(document, LIMITS)
    assert await provider.inventory() == [made]
    assert port not in trial.cloud.things["ports"]


async def test_without_quota_for_server_groups_replicas_are_made_all_the_same(trial: Trial) -> None:
    full = '{"forbidden": {"message": "Quota exceeded, too many server groups."}}'
    trial.cloud.faults.append(Fault("POST .*/os-server-groups", 403, full))
    await trial.provider().create(trial.document(Role.GATEWAY), LIMITS)
    (body,) = trial.cloud.made(SERVERS)
    assert "os:scheduler_hints" not in body


async def test_only_the_stacks_zones_are_used(trial: Trial) -> None:
    provider = trial.provider("zones: [az1, az2]")
    assert provider.zones == ("az1", "az2")
    made = await provider.create(trial.document(Role.GATEWAY), LIMITS, "az2")
    assert made.zone == "az2"
    assert (await provider.inventory())[0].zone == "az2"
    with pytest.raises(ProviderError, match=r"az3 is not one of openstack.zones"):
        await provider.create(trial.document(Role.GATEWAY, 1), LIMITS, "az3")


async def test_the_stacks_network_is_a_24(trial: Trial) -> None:
    assert await trial.provider().subnet() == IPv4Network("10.88.0.0/24")
    trial.cloud.things["subnets"][0]["cidr"] = "10.88.0.0/16"
    with pytest.raises(ProviderError, match="must be a /24"):
        await trial.provider().subnet()
