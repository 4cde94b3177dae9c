"""The lease on a fake Neutron, which answers each of several deletions with success, as the real one does."""

from __future__ import annotations

import pytest

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.lease import Mark
from sipmediadeploy.providers.openstack import lease
from sipmediadeploy.providers.openstack.errors import Missing, Unavailable
from tests.harness.lease_store import keeps_the_contract
from tests.unit.providers.openstack.conftest import Trial
from tests.unit.providers.openstack.fake_cloud import Fault


async def test_it_keeps_the_contract(trial: Trial) -> None:
    await keeps_the_contract(trial.provider().lease())


async def test_a_record_is_read_by_others_and_changed_by_who_only_read_it(trial: Trial) -> None:
    made = await trial.provider().lease().create("demo-scaler-0", 3, Mark(7, paused=True))
    other = trial.provider().lease()
    await other.change(made.id, Mark(8, released=True))
    found = await other.read()
    assert found is not None
    assert (found.holder, found.term, found.mark) == ("demo-scaler-0", 3, Mark(8, released=True))


async def test_a_lost_answer_is_no_success(trial: Trial) -> None:
    store = trial.provider().lease()
    trial.cloud.faults.append(Fault("POST .*/ports", 504, done_anyway=True))
    with pytest.raises(Unavailable):
        await store.create("a", 1, Mark())
    assert await store.read() is not None


async def test_a_claim_of_a_scaler_that_died_goes_after_a_while(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = trial.provider().lease()
    made = await store.create("a", 1, Mark())
    (port,) = trial.cloud.things["ports"]
    fixed = [{"ip_address": "192.0.2.2"}]
    claim = trial.cloud.add("ports", name="c", description="", network_id=port["network_id"], fixed_ips=fixed)
    assert not await store.delete(made.id)
    assert not await store.delete(made.id)
    assert claim in trial.cloud.things["ports"]
    monkeypatch.setattr(lease, "STALE_CLAIM_S", 0.0)
    assert not await store.delete(made.id)
    assert await store.delete(made.id)
    assert trial.cloud.things["ports"] == []


async def test_who_finds_a_claim_does_not_burden_the_cloud_with_another(trial: Trial) -> None:
    store, other = trial.provider().lease(), trial.provider().lease()
    made = await store.create("a", 1, Mark())
    (port,) = trial.cloud.things["ports"]
    fixed = [{"ip_address": "192.0.2.2"}]
    trial.cloud.add("ports", name="c", description="", network_id=port["network_id"], fixed_ips=fixed)
    assert not await other.delete(made.id)
    assert len(trial.cloud.made("POST .*/ports")) == 1


async def test_a_claim_whose_answer_was_lost_is_known_again(trial: Trial) -> None:
    store, other = trial.provider().lease(), trial.provider().lease()
    made = await store.create("a", 1, Mark())
    trial.cloud.faults.append(Fault("POST .*/ports", 504, done_anyway=True))
    with pytest.raises(Unavailable):
        await store.delete(made.id)
    assert not await other.delete(made.id), "it is another's claim, and not old"
    assert await store.delete(made.id)
    assert trial.cloud.things["ports"] == []


@pytest.mark.parametrize("count", [0, 2])
async def test_it_needs_exactly_one_network_and_makes_none(trial: Trial, count: int) -> None:
    networks = trial.cloud.things["networks"]
    (own,) = [one for one in networks if one["name"] == "smd-demo-lease"]
    networks.remove(own)
    networks += [own | {"id": f"n{number}"} for number in range(count)]
    with pytest.raises(Missing, match=f"there are {count} networks smd-demo-lease and not one"):
        await trial.provider().lease().create("a", 1, Mark())


async def test_another_port_at_its_address_is_no_lease(trial: Trial) -> None:
    store = trial.provider().lease()
    await store.create("a", 1, Mark())
    trial.cloud.things["ports"][0]["description"] = "something else"
    with pytest.raises(ProviderError, match="is no lease; remove it"):
        await store.read()


def test_a_record_fits_a_description_and_comes_back_whole() -> None:
    mark = Mark(2**40, released=True)
    text = lease.write_record("a" * 32, "b" * 63, 10**9, mark)
    assert len(text) <= 255
    record = lease.read_record("a" * 32, {"id": "x", "description": text})
    assert (record.id, record.holder, record.term, record.mark) == ("x", "b" * 63, 10**9, mark)
