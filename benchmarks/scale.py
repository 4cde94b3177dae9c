"""What the scaler takes for large stacks: planning, and asking real agents.

    python -m benchmarks.scale [--replicas 10 100 1000 10000] [--agents 1000] [--seconds 20] [--json]

Planning is timed on a stack whose replicas are all gateways but for a few, some of them busy, silent or
outdated. Asking is measured against HTTP servers in a process of their own, by the CPU time of this one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from multiprocessing.synchronize import Event

from aiohttp import web

from sipmediadeploy.protocol.agent import State, Status
from sipmediadeploy.protocol.client import HttpAgents
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.scaler.health import Prober
from sipmediadeploy.scaler.model import Memory, Observation, Probe, Replica, Target
from sipmediadeploy.scaler.plan import plan
from sipmediadeploy.stack import GatewayPool, Role, parse_stack

_NOW, _PORT, _ROUNDS = 10_000.0, 18_800, 5
_OWN = "demo-scaler-0"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One size of stack."""

    replicas: int
    plan_ms: float
    """The median of some rounds."""


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Asking every agent once a second."""

    agents: int
    cpu_percent: float
    """Of one core."""
    answered: int
    slowest_ms: float
    """The 99th percentile of the time to an answer."""


def record_of(role: Role, slot: int, address: IPv4Address, version: str = "v1") -> ReplicaRecord:
    """A replica's record."""
    name = f"demo-{role}-{slot}"
    return ReplicaRecord(f"id-{name}", name, role, slot, address, Life.RUNNING, 0.0, "current", version)


def status_of(name: str, role: Role, calls: int) -> Status:
    """What a well replica says."""
    state = State.BUSY if calls >= 4 else State.READY
    capacity = 4 if role is Role.GATEWAY else 0
    return Status(
        name=name, role=role, state=state, reason="well", calls=calls, capacity=capacity,
        active=None, version="v1", config_hash="current", uptime_s=1.0,
    )  # fmt: skip


def replica_of(role: Role, slot: int) -> Replica:
    """One of a large stack: a tenth silent, a tenth outdated, all with some calls."""
    record = record_of(role, slot, IPv4Address(0x0A000000 + slot), "v0" if slot % 10 == 7 else "v1")
    silent = slot % 10 == 3 and role is Role.GATEWAY
    probe = Probe(
        first_seen=0.0,
        answered_at=_NOW - (100.0 if silent else 0.5),
        status=status_of(record.name, role, slot % 5 if role is Role.GATEWAY else 0),
        ready_at=1.0,
        error="no answer within 1 s" if silent else "",
    )
    return Replica(record, probe)


def plan_row(number: int) -> PlanRow:
    """Time planning for a stack of ``number`` replicas."""
    stack = parse_stack("name: demo\ndomain: sip.test\nconference: {url: 'wss://rooms.example.org/'}\n")
    gateways = GatewayPool.model_construct(**(stack.pools.gateway.model_dump() | {"max": number}))
    pools = stack.pools.model_copy(update={"gateway": gateways})
    roles = {Role.KAMAILIO: 2, Role.COTURN: 2, Role.SCALER: 2}
    roles[Role.GATEWAY] = max(number - sum(roles.values()), 1)
    replicas = tuple(replica_of(role, slot) for role, n in roles.items() for slot in range(n))
    hashes = {(role, slot): "current" for role, n in roles.items() for slot in range(n + 2)}
    target = Target(stack.model_copy(update={"pools": pools}), "v1", hashes, _OWN)
    observation = Observation(_NOW, replicas, _NOW)
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        plan(target, observation, (), Memory(started_at=0.0))
        times.append(time.perf_counter() - began)
    return PlanRow(len(replicas), round(1000 * statistics.median(times), 2))


def serve_agents(number: int, ready: Event) -> None:
    """The agents: one server that answers for all of them, each on an address of its own."""

    async def status(request: web.Request) -> web.Response:
        name = request.headers["Authorization"].removeprefix("Bearer ")
        text = status_of(name, Role.GATEWAY, 1).model_dump_json()
        return web.Response(text=text, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/v1/status", status)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", _PORT, backlog=number).start()
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(run())


async def probe_row(number: int, seconds: float) -> ProbeRow:
    """Ask ``number`` agents for ``seconds``."""
    times: list[float] = []

    def timed(_role: Role, took: float | None) -> None:
        if took is not None:
            times.append(took)

    records = [record_of(Role.GATEWAY, n, IPv4Address(0x7F010000 + n)) for n in range(1, number + 1)]
    async with HttpAgents(lambda name: name, _PORT) as agents:
        prober = Prober(agents, lambda: None, timed)
        prober.watch(records)
        await asyncio.sleep(3)  # connections are made
        times.clear()
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        await asyncio.sleep(seconds)
        after, took = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
        await prober.close()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    slow = sorted(times)[int(0.99 * len(times))] if times else 0.0
    return ProbeRow(number, round(100 * used / took, 1), len(times), round(1000 * slow, 1))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scale", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    rows = [plan_row(number) for number in args.replicas]
    ready = multiprocessing.Event()
    server = multiprocessing.Process(target=serve_agents, args=(args.agents, ready), daemon=True)
    server.start()
    try:
        if not ready.wait(20):
            print("scale: the agents did not start", file=sys.stderr)
            return 2
        probed = asyncio.run(probe_row(args.agents, args.seconds))
    finally:
        server.terminate()
        server.join()
    if args.json:
        print(json.dumps({"plan": [asdict(row) for row in rows], "probe": asdict(probed)}, indent=2))
        return 0
    for row in rows:
        print(f"plan for {row.replicas:6} replicas: {row.plan_ms:8.2f} ms")
    print(
        f"asking {probed.agents} agents once a second: {probed.cpu_percent:.1f} % of a core, "
        f"{probed.answered} answers in {args.seconds:.0f} s, p99 {probed.slowest_ms:.0f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
