"""``smd node``: renders a replica's configuration, supervises its services, tells the truth about them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import structlog

from sipmediadeploy import package_version
from sipmediadeploy.node import decide, machine, state
from sipmediadeploy.node.api import make_api
from sipmediadeploy.node.isolation import DISCARD_PORT, Witnesses, default_gateway
from sipmediadeploy.node.memory import release_memory
from sipmediadeploy.node.roles import keepalived
from sipmediadeploy.node.roles.base import RUN, Health, NodeRole, RoleError
from sipmediadeploy.node.roles.registry import role_of
from sipmediadeploy.node.service_address import ServiceAddress
from sipmediadeploy.node.state import AgentState, StateError
from sipmediadeploy.node.supervisor import Supervisor, SupervisorError
from sipmediadeploy.node.systemd import supervisor_here
from sipmediadeploy.node.ticks import tick
from sipmediadeploy.protocol.agent import Gateway, Gateways, Order, Status
from sipmediadeploy.protocol.http_server import serving
from sipmediadeploy.protocol.replica import PATH, KamailioService, ReplicaDocument, load_replica_document

log = structlog.get_logger()

_QUICK_S = 0.05
"""After a miss: the second question comes so soon."""
_STANDBY_S = 0.25
_ELECTION_S = 0.5
"""How often the election's number is looked at without news: time changes it, and a freeze is noticed."""
_SERVICES_S, _STOPPED_LOOKS = 2.0, 3
_ADDRESS_LIMIT_S = 15.0


class Agent:
    """One replica's agent. Everything runs in one event loop."""

    def __init__(
        self,
        document: ReplicaDocument,
        role: NodeRole,
        supervisor: Supervisor,
        remembered: AgentState,
        state_path: Path = state.PATH,
        health_file: Path = keepalived.HEALTH_FILE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.document = document
        self._config_hash = document.service_hash()
        self._role = role
        self._supervisor = supervisor
        self._state = remembered
        self._state_path = state_path
        self._health_file = health_file
        self._clock = clock
        self._started_at = clock()
        self._seen = decide.start(clock())
        self._thawed_at = float("-inf")
        self._in_use: str | None = remembered.gateways.revision if remembered.gateways.gateways else None
        self._orders = asyncio.Lock()
        self._pids: dict[str, int] = {}
        self.restarts: dict[str, int] = dict.fromkeys(role.services, 0)
        self._warnings: tuple[str, ...] = ()
        self._stopped: dict[str, int] = {}
        """By service: in how many looks in a row it was found stopped."""
        self._witnesses = Witnesses(_neighbours(document))
        self._address = None if document.vrrp is None else ServiceAddress(document.vrrp.service_address)
        self._news = asyncio.Event()
        """Something that the election's number depends on has changed."""

    async def start_services(self) -> None:
        """Render, and start what is not running; what runs is adopted.

        Raises:
            RoleError, OSError, SupervisorError: the replica can't do its work.
        """
        changed = machine.write_files(self._role.render())
        if self.document.vrrp is not None and not self._health_file.exists():
            self._health_file.write_text(f"{keepalived.RELEASE}\n", encoding="ascii")
        for service in self._role.services:
            running = (await self._supervisor.status(service)).up
            if not running:
                await self._supervisor.start(service)
            elif changed:
                await self._supervisor.restart(service)
            log.info("service", service=service, done="restarted" if running and changed else
                     "adopted" if running else "started")  # fmt: skip

    def status(self) -> Status:
        """What the replica says of itself."""
        active = self.active()
        now = self._clock()
        current, reason = decide.decide(self._seen, self._state, active, now)
        health = self._seen.last
        return Status(
            name=self.document.name,
            role=self.document.role,
            state=current,
            reason=reason,
            calls=health.calls,
            capacity=health.capacity,
            active=active,
            drained_by=self._state.drained_by,
            retired=self._state.retired,
            version=package_version(),
            config_hash=self._config_hash,
            uptime_s=round(now - self._started_at, 1),
            term=self._state.term,
            gateways_revision=self._in_use,
            warnings=self._warnings,
        )

    def active(self) -> bool | None:
        """Whether this replica holds the service address, or leads; None when its pool has neither."""
        return self._seen.last.active if self._address is None else self._address.held

    @property
    def address_taken(self) -> int:
        """How often the service address came to this replica since the agent began."""
        return 0 if self._address is None else self._address.taken

    async def service_metrics(self) -> bytes:
        """What the service itself counts, for Prometheus."""
        return await self._role.metrics()

    def logs(self, lines: int) -> list[str]:
        """The last lines of all services' logs."""
        return self._supervisor.logs(lines)

    async def drain(self, order: Order) -> None:
        """Take no new work. Raises OlderTerm, StateError, RoleError."""
        await self._obey(order, lambda s: state.drained(s, _drainer(order)), self._role.drain)

    async def undrain(self, order: Order) -> None:
        """Take new work again. Raises OlderTerm, NotYours, StateError, RoleError."""
        await self._obey(order, lambda s: state.undrained(s, _drainer(order)), self._role.undrain)

    async def retire(self, order: Order) -> None:
        """Never take new work again; done when disk and service know it. Raises like :meth:`undrain`."""
        await self._obey(order, state.retired, self._role.retire)

    async def set_gateways(self, gateways: Gateways) -> None:
        """Use these gateways, and keep them for the next start. Raises OlderTerm, StateError, RoleError."""
        async with self._orders:
            new = state.with_term(self._state, gateways.term)
            if gateways.gateways != self._state.gateways.gateways or new.term != self._state.term:
                self._keep(new.model_copy(update={"gateways": gateways}))
            await self._use_gateways()

    async def run(self) -> None:
        """Check, write the election's number and look after the services, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._check_forever())
                tasks.create_task(self._watch_services())
                if self._address is not None:
                    tasks.create_task(self._address.run(self._news.set))
                    tasks.create_task(self._stand_for_election())
                    tasks.create_task(self._witnesses.run(self._news.set, lambda: self.active() is True))
        finally:
            await self._role.close()

    async def _obey(
        self, order: Order, change: Callable[[AgentState], AgentState], tell: Callable[[], Awaitable[None]]
    ) -> None:
        async with self._orders:
            known = state.with_term(self._state, order.term) if order.by == "scaler" else self._state
            new = change(known)
            if new != self._state:
                log.info("order", drained_by=new.drained_by, retired=new.retired, term=new.term, by=order.by)
            self._keep(new)
            await tell()

    def _keep(self, new: AgentState) -> None:
        """Remember ``new``, on disk when it can be; a retirement that can't be kept is not accepted."""
        if new == self._state:
            return
        try:
            state.save(new, self._state_path)
        except StateError:
            if not new.retired:
                self._state = new
            raise
        self._state = new
        self._news.set()

    async def _use_gateways(self) -> None:
        wanted = self._state.gateways
        await self._role.set_gateways(wanted)
        self._in_use = wanted.revision

    async def _check_forever(self) -> None:
        while True:
            before = self._seen
            health = await self._role.check()
            if health.ok and self._witnesses.isolated:
                health = Health(False, "hears nobody on its network: it is cut off")
            self._seen = decide.after_check(before, health, self._role.patience_s, self._clock())
            if self._seen.healthy != before.healthy:
                self._news.set()
                log.info("health", healthy=self._seen.healthy, reason=health.reason)
            if health.ok:
                with suppress(RoleError):
                    await self._remind()
            await tick(self._check_pause_s() if health.ok or self._seen.misses > 1 else _QUICK_S)

    def _check_pause_s(self) -> float:
        """A standby serves nobody, and need not be looked at as often."""
        standby = self._address is not None and not self._address.held
        return max(self._role.interval_s, _STANDBY_S if standby else 0.0)

    async def _remind(self) -> None:
        """Tell a service that was restarted what it must not forget."""
        health = self._seen.last
        if self._state.retired and not health.retired and health.draining is not None:
            await self._role.retire()
        elif self._state.drained_by is not None and health.draining is False:
            await self._role.drain()
        elif self._state.drained_by is None and not self._state.retired and health.draining:
            await self._role.undrain()
        wanted = self._state.gateways
        if wanted.gateways and self._in_use != wanted.revision:
            async with self._orders:
                await self._use_gateways()

    async def _watch_services(self) -> None:
        while True:
            for service in self._role.services:
                try:
                    pid = (await self._supervisor.status(service)).pid
                except SupervisorError as e:
                    log.warning("supervisor", problem=str(e))
                    continue
                if pid is not None and self._pids.get(service, pid) != pid:
                    self.restarts[service] += 1
                    log.warning("service was restarted", service=service, pid=pid)
                if pid is not None:
                    self._pids[service] = pid
                    await self._end_stopped(service, pid)
            taken_at = () if self._address is None else tuple(self._address.taken_at)
            self._warnings = decide.warnings(taken_at, machine.free_share(RUN), self._clock())
            await tick(_SERVICES_S)

    async def _end_stopped(self, service: str, pid: int) -> None:
        """A service that is stopped whenever it is looked at is so for good: its supervisor sees it alive.

        A stopped keepalived keeps the service address that another replica holds by now.
        """
        looks = self._stopped.get(service, 0) + 1 if machine.is_stopped(pid) else 0
        self._stopped[service] = looks
        if looks >= _STOPPED_LOOKS:
            log.warning("service is stopped, and killed", service=service, pid=pid)
            with suppress(SupervisorError):
                await self._supervisor.kill(service)

    async def _stand_for_election(self) -> None:
        written: int | None = None
        last_run = self._clock()
        while True:
            now = self._clock()
            if now - last_run > decide.THAW_GAP_S:
                log.warning("was frozen", seconds=round(now - last_run, 1))
                self._thawed_at = now
            last_run = now
            value = self._election_value(now)
            # While nothing is known, an adopted service keeps what was written for it.
            if value != written and self._seen.known:
                try:
                    self._health_file.write_text(f"{value}\n", encoding="ascii")
                    written = value
                except OSError as e:
                    log.error("election", problem=f"{self._health_file} can't be written: {e.strerror}")
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ELECTION_S):
                    await self._news.wait()

    def _election_value(self, now: float) -> int:
        if now - self._thawed_at < decide.THAW_S:
            return keepalived.RELEASE
        seen = self._seen
        draining = self._state.drained_by is not None or self._state.retired
        return keepalived.election_value(
            # Two rounds of questions have shown it: it need not wait for two health checks.
            seen.healthy and not self._witnesses.isolated,
            now - seen.sick_since if not seen.healthy else 0.0,
            draining,
            holder=self.active() is True,
            isolated=self._witnesses.isolated,
        )


def _neighbours(document: ReplicaDocument) -> list[tuple[IPv4Address, int]]:
    """Those on its network who may tell a replica that has a service address whether it is cut off."""
    if document.vrrp is None:
        return []
    gateway = default_gateway()
    others = [(peer, document.agent_port) for peer in document.vrrp.peers]
    return others if gateway is None else [(gateway, DISCARD_PORT), *others]


def _given_gateways(document: ReplicaDocument) -> tuple[Gateway, ...]:
    return document.service.gateways if isinstance(document.service, KamailioService) else ()


def _drainer(order: Order) -> state.Drainer:
    return "operator" if order.by == "operator" else "scaler"


async def serve(document: ReplicaDocument) -> None:
    """Run the agent of ``document`` until SIGTERM.

    Raises:
        RoleError, StateError, SupervisorError, OSError: the replica can't do its work.
    """
    remembered = state.with_given(state.load(), _given_gateways(document))
    deadline = time.monotonic() + _ADDRESS_LIMIT_S
    while (interface := machine.interface_of(document.address)) is None:
        if time.monotonic() > deadline:
            raise RoleError(f"no interface of this machine has the address {document.address}")
        await asyncio.sleep(0.2)
    role = role_of(document, interface, remembered.gateways)
    agent = Agent(document, role, supervisor_here(), remembered)
    await agent.start_services()
    release_memory()
    async with serving(make_api(agent), str(document.address), document.agent_port):
        work = asyncio.create_task(agent.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        await asyncio.wait({work})
    if not work.cancelled():
        work.result()


def main(path: Path = PATH) -> int:
    """Run until SIGTERM. Exit code 2: the replica can't do its work; the reason is on standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ]
    )
    try:
        document = load_replica_document(path)
    except OSError as e:
        print(f"{path}: the replica document can't be read: {e.strerror}", file=sys.stderr)
        return 2
    except ValueError as e:
        # Its text may quote secrets.
        print(f"{path}: not a replica document ({type(e).__name__})", file=sys.stderr)
        return 2
    log.info("agent starts", name=document.name, role=document.role, version=package_version())
    try:
        asyncio.run(serve(document))
    except (RoleError, StateError, SupervisorError, OSError, KeyError) as e:
        log.error("agent can't work", problem=str(e))
        time.sleep(1)  # the supervisor starts it again; not in a busy loop
        return 2
    log.info("agent stops")
    return 0
