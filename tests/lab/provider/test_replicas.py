"""A Kamailio, a Coturn and a gateway on a real OpenStack, which the tests share; the last one ends them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

import pytest
import yaml

from sipmediadeploy.protocol.replica import PATH, ReplicaDocument
from sipmediadeploy.providers.base import SERVICE_ADDRESS, Life, ReplicaRecord
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.providers.openstack import leftovers, marks
from sipmediadeploy.providers.openstack.errors import Conflict
from sipmediadeploy.stack import Role
from tests.harness.api_faults.scalers import SUBNET
from tests.harness.waiting import until_async
from tests.lab.provider.conftest import PATIENCE, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
ROLES = (Role.KAMAILIO, Role.COTURN, Role.GATEWAY)

Made = Mapping[Role, ReplicaRecord]


@pytest.fixture(scope="module")
def made(lab: Lab) -> Iterator[Made]:
    """The replicas as the provider said that it made them, side by side."""
    leftovers.remove_stack(lab.cloud, lab.stack.name)
    provider, began = lab.provider(), time.monotonic()

    async def make() -> list[ReplicaRecord]:
        making = [provider.create(lab.document(role, 0), lab.limits(role)) for role in ROLES]
        return await asyncio.gather(*making)

    records = asyncio.run(make())
    print(f"\nmade in {time.monotonic() - began:.1f} s")
    yield dict(zip(ROLES, records, strict=True))
    leftovers.remove_stack(lab.cloud, lab.stack.name)


async def test_replicas_are_found_as_they_were_made(lab: Lab, made: Made) -> None:
    began = time.monotonic()
    found = await lab.provider().inventory()
    print(f"\ninventory in {time.monotonic() - began:.2f} s")
    assert {one.name: one for one in found} == {one.name: one for one in made.values()}
    for role, one in made.items():
        document = lab.document(role, 0)
        assert (one.name, one.slot, one.life) == (document.name, 0, Life.RUNNING)
        assert (one.config_hash, one.address) == (document.service_hash(), document.address)


def test_a_port_has_its_pools_rules_and_may_have_the_service_address(lab: Lab, made: Made) -> None:
    kamailio = made[Role.KAMAILIO]
    (port,) = lab.all("network", "/ports", "ports", device_id=kamailio.id)
    assert [one["ip_address"] for one in port["fixed_ips"]] == [str(kamailio.address)]
    assert [one["ip_address"] for one in port["allowed_address_pairs"]] == [
        str(addresses.service_address(SUBNET, Role.KAMAILIO))
    ]
    name = marks.pool_name(lab.stack.name, Role.KAMAILIO)
    (group,) = lab.all("network", "/security-groups", "security_groups", name=name)
    assert port["security_groups"] == [group["id"]]


def test_a_gateway_is_told_of_its_floating_ip(lab: Lab, made: Made) -> None:
    mark, gateway = marks.replica_mark(lab.stack.name), made[Role.GATEWAY]
    (ip,) = lab.all("network", "/floatingips", "floatingips", description=mark)
    assert ip["fixed_ip_address"] == str(gateway.address)
    told = _user_data(lab, gateway.id)
    assert told.service.media_address == IPv4Address(ip["floating_ip_address"])  # type: ignore[union-attr]


@pytest.mark.promise(3)
async def test_the_floating_ip_is_on_the_service_address_and_comes_back_when_it_was_detached(
    lab: Lab, made: Made
) -> None:
    provider = lab.provider()

    async def mapped_to() -> tuple[IPv4Address, str | None]:
        (ip,) = [ip for ip in await provider.floating_ips() if ip.role is Role.COTURN]
        return ip.address, ip.mapped_to

    address, to = await mapped_to()
    assert to == SERVICE_ADDRESS
    (raw,) = lab.all("network", "/floatingips", "floatingips", floating_ip_address=str(address))
    assert raw["fixed_ip_address"] == str(addresses.service_address(SUBNET, Role.COTURN))
    lab.cloud.put("by hand", "network", f"/floatingips/{raw['id']}", {"floatingip": {"port_id": None}})
    assert await mapped_to() == (address, None)
    began = time.monotonic()
    await provider.map_floating_ip(address, SERVICE_ADDRESS)
    print(f"\nmapped in {time.monotonic() - began:.1f} s")
    assert await mapped_to() == (address, SERVICE_ADDRESS)


async def test_an_address_in_use_is_a_conflict_that_names_who_has_it(lab: Lab, made: Made) -> None:
    provider, gateway = lab.provider(public_address="none"), made[Role.GATEWAY]
    with pytest.raises(Conflict, match=rf"{gateway.address} is in use by .*{gateway.id}"):
        await provider.create(lab.document(Role.GATEWAY, 0, number=7), lab.limits(Role.GATEWAY))
    assert len(await provider.inventory()) == len(made)


async def test_a_running_server_in_error_is_told_from_one_that_is_over(lab: Lab, made: Made) -> None:
    admin, provider, gateway = lab.require_admin(), lab.provider(), made[Role.GATEWAY]

    def act(what: str, body: dict[str, object]) -> None:
        admin.post(what, "compute", f"/servers/{gateway.id}/action", body)

    async def life() -> Life:
        (seen,) = [one for one in await provider.inventory() if one.id == gateway.id]
        return seen.life

    async def has_stopped() -> bool:
        return await life() is Life.STOPPED

    act("error", {"os-resetState": {"state": "error"}})
    assert await life() is Life.FAILED
    act("active", {"os-resetState": {"state": "active"}})
    act("stop", {"os-stop": None})
    await until_async("it has stopped", has_stopped, 60 * PATIENCE)
    act("error", {"os-resetState": {"state": "error"}})
    assert await life() is Life.STOPPED


async def test_with_a_replica_goes_what_is_its_own_and_what_is_its_pools_stays(lab: Lab, made: Made) -> None:
    provider, began = lab.provider(), time.monotonic()
    await asyncio.gather(*(provider.delete(one.id) for one in made.values()))
    print(f"\ndeleted in {time.monotonic() - began:.1f} s")
    assert await provider.inventory() == []
    pools = (Role.COTURN, Role.KAMAILIO)
    ips = [f"floating IP of of={role}" for role in pools]
    assert lab.marked() == ips + [f"port smd-{lab.stack.name}-{role}" for role in pools]
    await provider.delete(made[Role.KAMAILIO].id)  # what is gone already is no error


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
