"""What a real OpenStack refuses, and what is left there; each test begins with nothing of the stack."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack import cloud, leftovers, marks
from sipmediadeploy.providers.openstack.cloud import Service
from sipmediadeploy.providers.openstack.errors import NoValidHost, QuotaExceeded
from sipmediadeploy.stack import Limits, Role
from tests.lab.provider.conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
_HUGE_MIB = 4_194_304


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
