"""Replicas on the real engine: made as asked, confined, listed in any state, removed without a trace."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from dataclasses import replace

import pytest
from docker.errors import APIError

from sipmediadeploy.protocol.replica import PATH
from sipmediadeploy.providers.base import Life, ProviderError
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.network import ensure_network, find_network
from sipmediadeploy.providers.docker.teardown import remove_stack
from sipmediadeploy.stack import Limits, Network, Role
from tests.integration.docker.conftest import Trial

pytestmark = pytest.mark.integration
LIMITS = Limits(cpus=0.5, memory_mib=128)


def host_sees(network: str) -> bool:
    return network in subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout


def pause(trial: Trial, container: str) -> None:
    """Freeze a container; while it is starting many processes, the kernel may refuse at first."""
    deadline = time.monotonic() + 30
    while True:
        try:
            trial.client.api.pause(container)
        except APIError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


async def test_a_replica_has_its_address_its_limits_and_nothing_more(trial: Trial) -> None:
    document = trial.document(Role.KAMAILIO, 1)
    record = await trial.provider.create(document, LIMITS)
    assert (record.name, record.role, record.slot) == (document.name, Role.KAMAILIO, 1)
    assert record.life in (Life.RUNNING, Life.STARTING)
    attrs = trial.client.api.inspect_container(record.id)
    endpoint = attrs["NetworkSettings"]["Networks"][labels.network_name(trial.stack.name)]
    assert endpoint["IPAddress"] == str(document.address) == str(trial.network.subnet[17])
    confined = attrs["HostConfig"]
    assert confined["Memory"] == confined["MemorySwap"] == 128 * 1024 * 1024
    assert confined["CpuQuota"] * 2 == confined["CpuPeriod"]
    assert not confined["Privileged"]
    assert confined["CapDrop"] == ["ALL"]
    assert {"NET_ADMIN", "NET_RAW"} < set(confined["CapAdd"])
    assert confined["SecurityOpt"] == ["no-new-privileges"]
    assert not confined["Binds"]


async def test_the_document_is_roots_alone_and_nowhere_else(trial: Trial) -> None:
    document = trial.document(Role.GATEWAY, 0)
    record = await trial.provider.create(document, LIMITS)
    stream, _ = trial.client.api.get_archive(record.id, str(PATH))
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        info = tar.getmembers()[0]
        content = tar.extractfile(info)
        assert content is not None
        assert content.read().decode() == document.to_yaml()
    assert (info.mode & 0o777, info.uid, info.gid) == (0o600, 0, 0)
    attrs = trial.client.api.inspect_container(record.id)
    assert document.agent_token not in str(attrs)
    assert "NET_ADMIN" not in attrs["HostConfig"]["CapAdd"]


async def test_only_scalers_get_the_engines_socket(trial: Trial) -> None:
    scaler = await trial.provider.create(trial.document(Role.SCALER, 0), LIMITS)
    binds = trial.client.api.inspect_container(scaler.id)["HostConfig"]["Binds"]
    assert binds == ["/var/run/docker.sock:/run/docker.sock"]
    probe = "import docker; print(docker.DockerClient.from_env().ping())"
    result = trial.client.containers.get(scaler.id).exec_run(
        ["python3", "-c", probe], environment={"PYTHONPATH": "/opt/smd/site-packages"}
    )
    assert result.output == b"True\n"


async def test_the_inventory_has_running_paused_and_exited_replicas(trial: Trial) -> None:
    made = [await trial.provider.create(trial.document(Role.GATEWAY, slot), LIMITS) for slot in range(3)]
    pause(trial, made[1].id)
    trial.client.api.kill(made[2].id)
    inventory = await trial.provider.inventory()
    assert [record.id for record in inventory] == [record.id for record in made]
    assert [record.life for record in inventory] == [Life.RUNNING, Life.RUNNING, Life.STOPPED]
    assert replace(inventory[0], life=made[0].life) == made[0]


async def test_a_name_that_is_taken_is_a_clear_error_and_the_first_stays(trial: Trial) -> None:
    document = trial.document(Role.GATEWAY, 0)
    first = await trial.provider.create(document, LIMITS)
    with pytest.raises(ProviderError, match=f"a container named smd-{trial.stack.name}-.* is there already"):
        await trial.provider.create(document, LIMITS)
    assert [record.id for record in await trial.provider.inventory()] == [first.id]


async def test_an_address_that_is_taken_is_a_clear_error_and_leaves_nothing_behind(trial: Trial) -> None:
    document = trial.document(Role.GATEWAY, 0)
    first = await trial.provider.create(document, LIMITS)
    second = document.model_copy(update={"name": f"{document.name}-again"})
    with pytest.raises(ProviderError, match=f"its address {document.address} is in use by another"):
        await trial.provider.create(second, LIMITS)
    everything = trial.client.api.containers(all=True, filters=labels.stack_filter(trial.stack.name))
    assert [one["Id"] for one in everything] == [first.id]


async def test_a_missing_image_is_a_clear_error(trial: Trial) -> None:
    provider = replace(trial.provider, image_version="0-none")
    with pytest.raises(ProviderError, match="image smd/gateway:0-none is missing: smd up builds it"):
        await provider.create(trial.document(Role.GATEWAY, 0), LIMITS)


@pytest.mark.promise(5)
async def test_deleting_is_complete_repeatable_and_never_touches_another_stack(trial: Trial) -> None:
    record = await trial.provider.create(trial.document(Role.GATEWAY, 0), LIMITS)
    with pytest.raises(ProviderError, match="left alone"):
        await replace(trial.provider, stack="other").delete(record.id)
    await trial.provider.delete(record.id)
    await trial.provider.delete(record.id)
    assert await trial.provider.inventory() == []


async def test_the_network_is_made_once_and_is_the_hosts_at_once(trial: Trial) -> None:
    assert ensure_network(trial.client, trial.stack) == trial.network
    assert host_sees(f"{trial.network.subnet} dev {trial.network.bridge}")
    other = trial.stack.model_copy(
        update={"name": f"{trial.stack.name}-b", "network": Network(subnet=trial.network.subnet)}
    )
    with pytest.raises(ProviderError, match=r"overlaps .*, which is in use"):
        ensure_network(trial.client, other)


async def test_what_the_engine_gives_out_by_itself_is_never_in_the_address_plan(trial: Trial) -> None:
    config = trial.client.api.inspect_network(trial.network.id)["IPAM"]["Config"][0]
    assert config["IPRange"] == f"{trial.network.subnet[12]}/30"


async def test_removing_a_stack_leaves_nothing_and_can_be_repeated(trial: Trial) -> None:
    await trial.provider.create(trial.document(Role.SCALER, 0), LIMITS)
    await trial.provider.create(trial.document(Role.KAMAILIO, 0), LIMITS)
    assert remove_stack(trial.client, trial.stack.name) == 3
    assert remove_stack(trial.client, trial.stack.name) == 0
    assert find_network(trial.client, trial.stack.name) is None
    assert not host_sees(str(trial.network.subnet))
