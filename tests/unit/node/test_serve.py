"""The agent's process: how it starts and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest

from sipmediadeploy.node import agent as agent_module
from sipmediadeploy.node.roles.base import Health, NoOrders, RenderedFile
from sipmediadeploy.protocol.client import AgentError, ask_status
from sipmediadeploy.protocol.replica import CoturnService, ReplicaDocument
from tests.harness.ports import ADDRESS, free_port
from tests.harness.waiting import until_async


class NoService(NoOrders):
    """A role that runs nothing."""

    services = ()

    def render(self) -> dict[Path, RenderedFile]:
        return {}

    async def check(self) -> Health:
        return Health(True, "well")


async def test_sigterm_ends_the_agent_in_order_though_a_scaler_keeps_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = CoturnService(service_address=IPv4Address(ADDRESS), realm="r", secret="s")
    document = ReplicaDocument(
        stack="t",
        name="c",
        slot=0,
        address=IPv4Address(ADDRESS),
        agent_port=free_port(),
        agent_token="t",
        service=service,
    )
    monkeypatch.setattr(agent_module, "role_of", lambda *_: NoService())
    serving = asyncio.create_task(agent_module.serve(document))

    async def answers() -> bool:
        try:
            return bool(await ask_status(document.address, document.agent_port, "t"))
        except AgentError:
            return False

    await until_async("the agent answers", answers)
    url = f"http://{document.address}:{document.agent_port}/v1/status"
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer t"}) as scaler:
        async with scaler.get(url) as answer:
            assert answer.status == 200
        started = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await serving
    # A second on a quiet machine; supervisors kill it after eight.
    assert time.monotonic() - started < 5
    assert not await answers()


def test_the_agent_of_a_replica_loads_nothing_that_it_does_not_need() -> None:
    """An idle replica's memory is mostly modules."""
    code = "import sipmediadeploy.node.agent, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    others = {"aiosipua", "cryptography", "dns", "docker", "gi", "jwt", "openstack", "prometheus_client"}
    others |= {"requests", "sipmediadeploy.cli.main", "sipmediadeploy.scaler", "typer"}
    assert not others & loaded


def test_an_agent_without_a_document_says_so_and_ends(tmp_path: Path) -> None:
    if Path("/etc/smd/replica.yaml").exists():
        pytest.skip("this machine is a replica")
    done = subprocess.run(
        [sys.executable, "-m", "sipmediadeploy.node"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "replica.yaml: the replica document can't be read" in done.stderr
