"""A gateway of real SIP and calls, on fake media and a fake conference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from sipmediadeploy.gateway.call import Call, CallSettings, CallTools
from sipmediadeploy.gateway.metrics import GatewayMetrics
from sipmediadeploy.gateway.ports import PortPairs
from sipmediadeploy.gateway.reasons import EndReason
from sipmediadeploy.gateway.sip.incoming import IncomingCall
from sipmediadeploy.gateway.sip.transaction import Timers
from sipmediadeploy.gateway.sip.ua import UserAgent
from tests.integration.gateway.fakes import FakeDriver, FakeWorkers
from tests.integration.gateway.wire import Peer, open_peer

FAST = Timers(t1=0.05, t2=0.4)
SETTINGS = CallSettings(
    media_address="127.0.0.1",
    bind_address="127.0.0.1",
    worker_limit_s=0.5,
    join_limit_s=0.5,
    answer_limit_s=1.0,
    info_interval_s=0.3,
    media_check_s=0.1,
)


@dataclass
class Calls:
    """Calls as the server would run them."""

    ua: UserAgent
    workers: FakeWorkers = field(default_factory=FakeWorkers)
    driver: FakeDriver = field(default_factory=FakeDriver)
    ports: PortPairs = field(default_factory=lambda: PortPairs(40000, 40007))
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    calls: list[Call] = field(default_factory=list)
    running: list[asyncio.Task[EndReason]] = field(default_factory=list)

    def on_invite(self, incoming: IncomingCall) -> None:
        tools = CallTools(self.workers, self.driver, self.ports, self.metrics, SETTINGS)
        self.calls.append(Call(tools, incoming))
        self.running.append(asyncio.get_running_loop().create_task(self.calls[-1].run()))

    async def end(self, nth: int = 0) -> EndReason:
        """How the call ended, with everything of it freed."""
        async with asyncio.timeout(30):
            reason = await self.running[nth]
        assert self.ports.free == 4
        assert all(worker.closed for worker in self.workers.workers)
        assert all(session.left for session in self.driver.sessions)
        assert self.ua.active_dialogs == 0
        assert self.calls[nth].released
        counted = f'smd_gateway_calls_ended_total{{reason="{reason.value}"}} 1.0'
        assert counted in self.metrics.text().decode()
        return reason


@pytest_asyncio.fixture
async def calls() -> AsyncIterator[Calls]:
    held: list[Calls] = []
    ua = UserAgent("127.0.0.1", on_invite=lambda call: held[0].on_invite(call), timers=FAST)
    held.append(Calls(ua))
    await ua.start()
    yield held[0]
    await ua.stop()  # first: else each BYE waits for an answer
    for task in held[0].running:
        task.cancel()
    await asyncio.gather(*held[0].running, return_exceptions=True)


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = await open_peer()
    yield peer
    peer.close()
