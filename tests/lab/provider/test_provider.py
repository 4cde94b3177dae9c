"""Replicas and addresses on a real OpenStack."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
import yaml

from sipmediadeploy.protocol.replica import PATH, ReplicaDocument
from sipmediadeploy.providers.base import SERVICE_ADDRESS, Life, ProviderError
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.providers.openstack import cloud, leftovers, marks
from sipmediadeploy.providers.openstack.cloud import Service
from sipmediadeploy.providers.openstack.errors import Conflict, NoValidHost, QuotaExceeded
from sipmediadeploy.stack import Limits, Role
from tests.lab.provider.conftest import SUBNET, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
_HUGE_MIB = 4_194_304


async def test_a_replica_is_made_found_and_deleted(clean: Lab) -> None:
    provider, document = clean.provider(), clean.document(Role.KAMAILIO, 0)
    began = time.monotonic()
    made = await provider.create(document, clean.limits(Role.KAMAILIO))
    print(f"\nmade in {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    assert await provider.inventory() == [made]
    print(f"inventory in {time.monotonic() - began:.2f} s")
    assert (made.name, made.slot, made.life) == (document.name, 0, Life.RUNNING)
    assert (made.config_hash, made.address) == (document.service_hash(), document.address)

    (port,) = clean.all("network", "/ports", "ports", device_id=made.id)
    assert [one["ip_address"] for one in port["fixed_ips"]] == [str(document.address)]
    assert [one["ip_address"] for one in port["allowed_address_pairs"]] == [
        str(addresses.service_address(SUBNET, Role.KAMAILIO))
    ]
    group = clean.all(
        "network",
        "/security-groups",
        "security_groups",
        name=marks.pool_name(clean.stack.name, Role.KAMAILIO),
    )
    assert port["security_groups"] == [one["id"] for one in group]

    began = time.monotonic()
    await provider.delete(made.id)
    print(f"deleted in {time.monotonic() - began:.1f} s")
    assert await provider.inventory() == []
    assert clean.marked() == ["floating IP of of=kamailio", f"port smd-{clean.stack.name}-kamailio"]
    await provider.delete(made.id)  # what is gone already is no error


async def test_a_gateway_is_told_of_its_floating_ip_which_goes_with_it(clean: Lab) -> None:
    provider = clean.provider()
    made = await provider.create(clean.document(Role.GATEWAY, 0), clean.limits(Role.GATEWAY))
    (ip,) = clean.all(
        "network", "/floatingips", "floatingips", description=marks.replica_mark(clean.stack.name)
    )
    assert ip["fixed_ip_address"] == str(made.address)
    told = _user_data(clean, made.id)
    assert told.service.media_address == IPv4Address(ip["floating_ip_address"])  # type: ignore[union-attr]
    await provider.delete(made.id)
    assert clean.marked() == []


async def test_the_floating_ip_is_on_the_service_address_and_comes_back_when_it_was_detached(
    clean: Lab,
) -> None:
    provider = clean.provider()
    await provider.create(clean.document(Role.COTURN, 0), clean.limits(Role.COTURN))
    (ip,) = await provider.floating_ips()
    assert (ip.role, ip.mapped_to) == (Role.COTURN, SERVICE_ADDRESS)
    (raw,) = clean.all("network", "/floatingips", "floatingips", floating_ip_address=str(ip.address))
    assert raw["fixed_ip_address"] == str(addresses.service_address(SUBNET, Role.COTURN))
    clean.cloud.put("by hand", "network", f"/floatingips/{raw['id']}", {"floatingip": {"port_id": None}})
    (ip,) = await provider.floating_ips()
    assert ip.mapped_to is None
    began = time.monotonic()
    await provider.map_floating_ip(ip.address, SERVICE_ADDRESS)
    print(f"\nmapped in {time.monotonic() - began:.1f} s")
    (ip,) = await provider.floating_ips()
    assert ip.mapped_to == SERVICE_ADDRESS


async def test_without_service_addresses_the_floating_ip_goes_from_replica_to_replica(clean: Lab) -> None:
    provider = clean.provider(service_addresses="reassociate")
    documents = [clean.document(Role.KAMAILIO, slot) for slot in (0, 1)]
    one, two = await asyncio.gather(*(provider.create(d, clean.limits(Role.KAMAILIO)) for d in documents))
    (ip,) = await provider.floating_ips()
    assert ip.mapped_to is None
    for record in (one, two):
        began = time.monotonic()
        await provider.map_floating_ip(ip.address, record.id)
        print(f"\nmapped in {time.monotonic() - began:.1f} s")
        (now,) = await provider.floating_ips()
        assert now.mapped_to == record.id


async def test_an_address_in_use_is_a_conflict_that_names_who_has_it(clean: Lab) -> None:
    provider = clean.provider(public_address="none")
    made = await provider.create(clean.document(Role.GATEWAY, 0), clean.limits(Role.GATEWAY))
    with pytest.raises(Conflict, match=rf"{made.address} is in use by .*{made.id}"):
        await provider.create(clean.document(Role.GATEWAY, 0, number=7), clean.limits(Role.GATEWAY))
    assert await provider.inventory() == [made]


@contextlib.contextmanager
def _huge_flavor(lab: Lab, admin: cloud.Cloud) -> Iterator[str]:
    """The name of a flavour for which no host has room, while it is there."""
    flavor = {"name": f"{lab.stack.name}-huge", "ram": _HUGE_MIB, "vcpus": 1, "disk": 1}
    made = admin.post("a flavour", "compute", "/flavors", {"flavor": flavor})["flavor"]
    try:
        yield str(made["name"])
    finally:
        admin.delete("a flavour", "compute", f"/flavors/{made['id']}")


@pytest.mark.promise(4)
async def test_no_host_with_room_is_said_and_nothing_is_left(clean: Lab) -> None:
    with _huge_flavor(clean, clean.require_admin()) as flavor:
        provider = clean.provider(flavors={Role.GATEWAY: flavor})
        with pytest.raises(NoValidHost, match=f"flavour {flavor}"):
            await provider.create(clean.document(Role.GATEWAY, 0), clean.limits(Role.GATEWAY))
        assert await provider.inventory() == []
        assert clean.marked() == []


@pytest.mark.promise(4)
async def test_a_used_up_quota_is_said_and_nothing_is_left(clean: Lab) -> None:
    admin, quota = clean.require_admin(), f"/os-quota-sets/{clean.cloud.project}"
    before = admin.get("quota", "compute", quota)["quota_set"]["ram"]
    with _huge_flavor(clean, admin) as flavor:
        # Servers of other stacks of the project are made meanwhile: they have room.
        admin.put("quota", "compute", quota, {"quota_set": {"ram": _HUGE_MIB // 2, "force": True}})
        try:
            provider = clean.provider(flavors={Role.GATEWAY: flavor})
            with pytest.raises(QuotaExceeded, match="quota is used up"):
                await provider.create(clean.document(Role.GATEWAY, 0), clean.limits(Role.GATEWAY))
        finally:
            admin.put("quota", "compute", quota, {"quota_set": {"ram": before, "force": True}})
    assert clean.marked() == []


async def test_a_running_server_in_error_is_told_from_one_that_is_over(clean: Lab) -> None:
    admin, provider = clean.require_admin(), clean.provider(public_address="none")
    made = await provider.create(clean.document(Role.GATEWAY, 0), clean.limits(Role.GATEWAY))
    admin.post("error", "compute", f"/servers/{made.id}/action", {"os-resetState": {"state": "error"}})
    (seen,) = await provider.inventory()
    assert seen.life is Life.FAILED
    admin.post("active", "compute", f"/servers/{made.id}/action", {"os-resetState": {"state": "active"}})
    clean.cloud.post("stop", "compute", f"/servers/{made.id}/action", {"os-stop": None})
    deadline = time.monotonic() + 60
    while (await provider.inventory())[0].life is not Life.STOPPED:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)
    admin.post("error", "compute", f"/servers/{made.id}/action", {"os-resetState": {"state": "error"}})
    (seen,) = await provider.inventory()
    assert seen.life is Life.STOPPED
    await provider.delete(made.id)
    assert clean.marked() == []


@pytest.mark.promise(5)
async def test_what_a_dead_scaler_left_is_swept_up_when_it_is_old(clean: Lab) -> None:
    stack, network = clean.stack.name, _network(clean)
    port = {"name": f"{stack}-gateway-9", "description": marks.replica_mark(stack), "network_id": network}
    clean.cloud.post("half a replica", "network", "/ports", {"port": port})
    now = time.time()
    assert leftovers.sweep(clean.cloud, stack, frozenset(), now) == 0
    assert leftovers.sweep(clean.cloud, stack, frozenset({port["name"]}), now + 400) == 0
    assert leftovers.sweep(clean.cloud, stack, frozenset(), now + 400) == 1
    assert clean.marked() == []


@pytest.mark.promise(5)
async def test_what_has_no_mark_is_never_touched(clean: Lab) -> None:
    other = {"name": f"{clean.stack.name}-gateway-0", "network_id": _network(clean)}
    made = clean.cloud.post("another's", "network", "/ports", {"port": other})["port"]
    try:
        leftovers.remove_stack(clean.cloud, clean.stack.name)
        leftovers.sweep(clean.cloud, clean.stack.name, frozenset(), time.time() + 4000)
        assert clean.cloud.get("another's", "network", f"/ports/{made['id']}")["port"]["id"] == made["id"]
    finally:
        clean.cloud.delete("another's", "network", f"/ports/{made['id']}")


async def test_a_missing_image_is_said_before_anything_is_made(clean: Lab) -> None:
    provider = clean.provider(images={})
    with pytest.raises(ProviderError, match="image smd-kamailio of version v1 is missing"):
        await provider.create(clean.document(Role.KAMAILIO, 0), Limits())
    assert clean.marked() == []


def test_long_lists_are_read_to_their_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lists: list[tuple[Service, str, str]] = [
        ("compute", "/flavors/detail", "flavors"),
        ("network", "/security-groups", "security_groups"),
        ("image", "/images", "images"),
    ]
    whole = [lab.all(*one) for one in lists]
    monkeypatch.setattr(cloud, "_PAGE", 1)
    assert [lab.all(*one) for one in lists] == whole


def _network(lab: Lab) -> str:
    (network,) = lab.all("network", "/networks", "networks", name=f"smd-{lab.stack.name}")
    return str(network["id"])


def _user_data(lab: Lab, server: str) -> ReplicaDocument:
    """What a server was told, as an administrator can read it back (``OS-EXT-SRV-ATTR:user_data``, Nova
    2.3).
    """
    admin = lab.require_admin()
    shown = admin.get("user_data", "compute", f"/servers/{server}")["server"]
    data = yaml.safe_load(base64.b64decode(shown["OS-EXT-SRV-ATTR:user_data"]))
    (file,) = data["write_files"]
    assert (file["path"], file["permissions"], file["encoding"]) == (str(PATH), "0600", "gz+b64")
    text = gzip.decompress(base64.b64decode(file["content"]))
    return ReplicaDocument.model_validate(yaml.safe_load(text))
