"""The agent with a real s6 and a real service, asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest

from sipmediadeploy.node import machine, state
from sipmediadeploy.node.agent import Agent
from sipmediadeploy.node.api import make_api
from sipmediadeploy.node.roles.base import Health, NoOrders, RenderedFile, RoleError
from sipmediadeploy.node.supervisor import S6
from sipmediadeploy.protocol.agent import Gateways, State
from sipmediadeploy.protocol.http_server import serving
from sipmediadeploy.protocol.replica import CoturnService, ReplicaDocument, Vrrp
from sipmediadeploy.protocol.sip_options import ProbeError, sip_options

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("s6-svscan") is None, reason="s6 is not installed"),
]

LOCAL = IPv4Address("127.0.0.1")
PORT, API_PORT = 25090, 25091
URL = f"http://{LOCAL}:{API_PORT}"
TOKEN = {"Authorization": "Bearer replica-token"}

RESPONDER = f"""#!/usr/bin/python3
import re, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{LOCAL}", {PORT}))
print("the service is up", flush=True)
while True:
    data, peer = s.recvfrom(9999)
    call = re.search(rb"Call-ID: (.*)", data).group(1).strip()
    s.sendto(b"SIP/2.0 200 OK\\r\\nCall-ID: " + call + b"\\r\\n\\r\\n", peer)
"""


class Responder(NoOrders):
    """A role whose service answers OPTIONS, as Kamailio's does."""

    services = ("responder",)
    interval_s = 0.1
    patience_s = 0.0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told: list[Gateways] = []
        self.takes_gateways = True

    def render(self) -> dict[Path, RenderedFile]:
        return {self.directory / "config": RenderedFile("x")}

    async def check(self) -> Health:
        try:
            await sip_options(LOCAL, PORT, 0.4)
        except ProbeError as e:
            return Health(False, str(e))
        return Health(True, "answers")

    async def set_gateways(self, gateways: Gateways) -> None:
        if not self.takes_gateways:
            raise RoleError("not now")
        self.told.append(gateways)


@pytest.fixture
def s6(tmp_path: Path) -> Iterator[S6]:
    services, logs = tmp_path / "services", tmp_path / "logs"
    (services / "responder" / "log").mkdir(parents=True)
    for path, text in (
        (services / "responder" / "run", RESPONDER),
        (
            services / "responder" / "log" / "run",
            f"#!/bin/sh\nexec s6-log presponder: n2 s10000 {logs}/responder\n",
        ),
    ):
        path.write_text(text)
        path.chmod(0o755)
    (services / "responder" / "down").touch()
    logs.mkdir()
    scan = subprocess.Popen(["s6-svscan", "-t", "0", services])
    deadline = time.monotonic() + 5
    while subprocess.run(["s6-svok", services / "responder"], check=False).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield S6(services, logs)
    scan.send_signal(signal.SIGTERM)
    scan.wait(10)


def document() -> ReplicaDocument:
    service = CoturnService(service_address=IPv4Address("127.0.52.3"), realm="r", secret="s")
    vrrp = Vrrp(service_address=IPv4Address("127.0.52.3"), router_id=9, priority=200, peers=())
    return ReplicaDocument(
        stack="t", name="c", slot=0, address=LOCAL, agent_token="replica-token", service=service, vrrp=vrrp
    )


class Running:
    """An agent that runs in the test's loop."""

    def __init__(self, tmp_path: Path, s6: S6) -> None:
        self.role = Responder(tmp_path)
        self.state_path = tmp_path / "agent.json"
        self.health_file = tmp_path / "health"
        self.agent = Agent(
            document(), self.role, s6, state.load(self.state_path), self.state_path, self.health_file
        )
        self.ends = contextlib.AsyncExitStack()

    async def start(self) -> None:
        await self.agent.start_services()
        await self.ends.enter_async_context(serving(make_api(self.agent), str(LOCAL), API_PORT))
        self.work = asyncio.create_task(self.agent.run())

    async def stop(self) -> None:
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)
        await self.ends.aclose()

    async def state(self) -> State:
        return self.agent.status().state


@pytest.fixture
async def running(tmp_path: Path, s6: S6) -> AsyncIterator[Running]:
    agent = Running(tmp_path, s6)
    await agent.start()
    await until(lambda: agent.agent.status().state is State.READY)
    yield agent
    await agent.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(URL, headers=TOKEN) as session:
        yield session


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def order(http: aiohttp.ClientSession, what: str, term: int = 1, by: str = "scaler") -> int:
    async with http.post(f"/v1/{what}", json={"term": term, "by": by}) as answer:
        return answer.status


@pytest.mark.parametrize("path", ["/v1/status", "/metrics", "/v1/logs", "/v1/openapi.json", "/nothing"])
async def test_nothing_is_told_without_the_replicas_token(running: Running, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "Bearer \u00e4"}):
        async with aiohttp.ClientSession(URL) as session, session.get(path, headers=headers) as answer:
            assert answer.status == 401


async def test_status_logs_and_metrics_are_there(running: Running, http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/status") as answer:
        status = await answer.json()
    assert (status["state"], status["reason"], status["active"]) == ("ready", "answers", False)
    async with http.get("/v1/logs", params={"lines": 5}) as answer:
        assert "responder: the service is up" in await answer.text()
    async with http.get("/metrics") as answer:
        assert 'smd_replica_state{state="ready"} 1.0' in await answer.text()


async def test_a_crashed_service_is_seen_restarted_and_counted(running: Running, s6: S6) -> None:
    pid = (await s6.status("responder")).pid
    assert pid is not None
    await until(lambda: running.health_file.read_text() == "0\n")
    await asyncio.sleep(0)  # the watcher has seen the first pid by then or sees the new one only
    await until(lambda: "responder" in running.agent._pids)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: running.agent.restarts["responder"] == 1)
    await until(lambda: running.agent.status().state is State.READY)


async def test_a_service_that_stays_stopped_is_killed_and_started_again(running: Running, s6: S6) -> None:
    """A stopped keepalived held its address for good, beside the replica that had taken it over."""
    pid = (await s6.status("responder")).pid
    assert pid is not None
    await until(lambda: "responder" in running.agent._pids)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: running.agent.restarts["responder"] == 1, 15)
    await until(lambda: running.agent.status().state is State.READY)


@pytest.mark.promise(3)
async def test_a_service_that_is_silent_with_its_port_open_gives_the_address_up(
    running: Running, s6: S6
) -> None:
    pid = (await s6.status("responder")).pid
    assert pid is not None
    await until(lambda: running.health_file.read_text() == "0\n")
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        await until(lambda: running.health_file.read_text() == "-254\n")
        print(f"given up after {time.monotonic() - started:.2f} s")
        assert running.agent.status().state is State.FAILED
        await until(lambda: running.health_file.read_text() == "-120\n")
    finally:
        with contextlib.suppress(ProcessLookupError):  # it was killed for being stopped
            os.kill(pid, signal.SIGCONT)
    await until(lambda: running.health_file.read_text() == "0\n")


@pytest.mark.promise(3)
async def test_a_restarted_agent_adopts_the_service_and_leaves_the_election_alone(
    running: Running, s6: S6, tmp_path: Path
) -> None:
    before = await s6.status("responder")
    await until(lambda: running.health_file.read_text() == "0\n")
    await running.stop()
    again = Running(tmp_path, s6)
    seen: set[str] = set()
    await again.start()
    try:

        def watched() -> bool:
            seen.add(running.health_file.read_text())
            return again.agent.status().state is State.READY

        await until(watched)
    finally:
        await again.stop()
        await running.start()
    assert seen == {"0\n"}
    assert (await s6.status("responder")).pid == before.pid


@pytest.mark.promise(1)
async def test_drain_and_retirement_survive_a_restart_of_the_agent(
    running: Running, s6: S6, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    assert await order(http, "retire") == 409
    assert await order(http, "drain", by="operator") == 200
    assert await order(http, "undrain") == 409
    await until(lambda: running.health_file.read_text() == "-60\n")
    assert await order(http, "retire") == 200
    await running.stop()
    again = Running(tmp_path, s6)
    await again.start()
    try:
        await until(lambda: again.agent.status().state is State.DRAINED)
        assert again.agent.status().retired
        assert await order(http, "undrain", by="operator") == 409
    finally:
        await again.stop()
        await running.start()


@pytest.mark.promise(2)
async def test_an_older_scaler_is_refused(running: Running, http: aiohttp.ClientSession) -> None:
    assert await order(http, "drain", term=5) == 200
    assert await order(http, "undrain", term=4) == 409
    async with http.put("/v1/gateways", json={"term": 4, "gateways": []}) as answer:
        assert answer.status == 409
        assert "older than 5" in await answer.text()
    assert await order(http, "undrain", term=5) == 200


async def test_a_gateway_list_that_the_service_did_not_take_is_given_again(
    running: Running, http: aiohttp.ClientSession
) -> None:
    running.role.takes_gateways = False
    listed = {"term": 1, "gateways": [{"name": "g", "address": "10.0.0.1", "free": 1}]}
    async with http.put("/v1/gateways", json=listed) as answer:
        assert answer.status == 503
    assert running.agent.status().gateways_revision is None
    running.role.takes_gateways = True
    await until(lambda: running.agent.status().gateways_revision == Gateways.model_validate(listed).revision)


async def test_with_a_full_disk_orders_are_in_force_and_the_scaler_is_told(
    running: Running, http: aiohttp.ClientSession
) -> None:
    running.state_path.with_suffix(".new").symlink_to("/dev/full")
    async with http.post("/v1/drain", json={"term": 1}) as answer:
        assert answer.status == 507
        assert "free some space" in await answer.text()
    assert running.agent.status().drained_by == "scaler"
    running.state_path.with_suffix(".new").symlink_to("/dev/full")
    assert await order(http, "retire") == 507
    assert not running.agent.status().retired, "a retirement that would be forgotten is none"


def test_files_are_written_once_and_only_a_change_asks_for_a_restart(tmp_path: Path) -> None:
    files = {tmp_path / "a" / "x": RenderedFile("1"), tmp_path / "a" / "y": RenderedFile("1", live=True)}
    assert machine.write_files(files)
    assert (tmp_path / "a" / "x").stat().st_mode & 0o777 == 0o600
    assert not machine.write_files(files)
    assert not machine.write_files({tmp_path / "a" / "y": RenderedFile("2", live=True)})
    assert (tmp_path / "a" / "y").read_text() == "2"
