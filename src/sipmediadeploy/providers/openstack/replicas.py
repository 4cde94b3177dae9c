"""Makes, lists and deletes the servers of a stack, with their ports and floating IPs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.providers.base import ProviderError, ReplicaRecord
from sipmediadeploy.providers.openstack import bodies, leftovers, marks
from sipmediadeploy.providers.openstack.bodies import Parts, Public
from sipmediadeploy.providers.openstack.cloud import Body, Cloud
from sipmediadeploy.providers.openstack.errors import (
    Conflict,
    Missing,
    NotAllowed,
    QuotaExceeded,
    Unavailable,
    explain_fault,
)
from sipmediadeploy.providers.openstack.lookup import Lookup
from sipmediadeploy.providers.openstack.service_addresses import ROLES, ServiceAddresses
from sipmediadeploy.stack import Limits, OpenStack, Role

BUILD_S = 100.0
"""How long a creation looks on while the server is built; a slower one is the planner's to judge."""
_LOOK_S = 1.0
_AT_ONCE = 4
"""So many replicas have their ports and addresses made at one time. More take as long together, and keep the
cloud from answering anything else meanwhile, such as a renewal of the lease. Any number is built at one time.
"""


class Replicas:
    """Blocking, for any thread."""

    def __init__(self, cloud: Cloud, stack: str, settings: OpenStack, version: str) -> None:
        """``version``: of the images that replicas are made from."""
        self._cloud = cloud
        self._stack = stack
        self._settings = settings
        self._version = version
        self.lookup = Lookup(cloud, stack, settings, version)
        self._vrrp = settings.service_addresses == "vrrp"
        self.addresses = ServiceAddresses(cloud, self.lookup, stack, self._vrrp)
        self._lock = threading.Lock()
        self._making: set[str] = set()
        self._halves: set[str] = set()
        """Names of creations that failed while what they had made could not be removed."""
        self._groups = threading.Lock()
        self._turns = threading.Semaphore(_AT_ONCE)
        self._swept_at = float("-inf")

    def inventory(self) -> list[ReplicaRecord]:
        """See ``Provider.inventory``."""
        found = (marks.record(server, self._stack) for server in leftovers.servers(self._cloud, self._stack))
        return sorted((record for record in found if record is not None), key=lambda record: record.name)

    def create(self, document: ReplicaDocument, limits: Limits, zone: str) -> ReplicaRecord:
        """See ``Provider.create``."""
        if document.stack != self._stack:
            raise ProviderError(f"replica {document.name} is of stack {document.stack}, not of {self._stack}")
        with self._under_way(document.name):
            self._remove_halves(document.name)
            self.sweep()
            marked = marks.metadata(document, self._version, zone, time.time())
            try:
                return self._make(document, limits, marked)
            except BaseException as e:
                if isinstance(e, ProviderError):
                    self.lookup.forget()  # an image or a network may have been replaced
                if not leftovers.undo(self._cloud, self._stack, document.name, marked[marks.CREATED]):
                    with self._lock:
                        self._halves.add(document.name)
                raise

    def delete(self, replica_id: str) -> None:
        """See ``Provider.delete``."""
        leftovers.remove_server(self._cloud, self._stack, replica_id)
        self.sweep()

    def sweep(self) -> None:
        """Remove what a scaler that died has left half-made; once in a minute, and errors wait for the
        next one.
        """
        with self._lock:
            if time.monotonic() - self._swept_at < leftovers.SWEEP_S:
                return
            self._swept_at = time.monotonic()
            making = frozenset(self._making)
        with contextlib.suppress(ProviderError):
            leftovers.sweep(self._cloud, self._stack, making, time.time())

    def _remove_halves(self, name: str) -> None:
        """Remove what failed creations left when the cloud was away; ``name`` is about to be made."""
        with self._lock:
            names = self._halves - (self._making - {name})
        for half in names:
            with contextlib.suppress(ProviderError):
                leftovers.remove_half(self._cloud, self._stack, half)
                with self._lock:
                    self._halves.discard(half)

    def _make(self, document: ReplicaDocument, limits: Limits, marked: dict[str, str]) -> ReplicaRecord:
        what = f"replica {document.name}"
        with self._turns:
            server_id, flavor = self._ask_for(what, document, limits, marked)
        server = self._wait(what, server_id, flavor, marked[marks.ZONE])
        record = marks.record({**server, "metadata": marked}, self._stack)
        if record is None:
            raise Unavailable(f"{what}: the cloud lost its metadata")
        return record

    def _ask_for(
        self, what: str, document: ReplicaDocument, limits: Limits, marked: dict[str, str]
    ) -> tuple[str, str]:
        """Make all that a server needs, and ask for it: its id, and its flavour's name."""
        role = document.role
        flavor, flavor_name = self.lookup.flavor(role, limits)
        subnet, _ = self.lookup.subnet(document.address)
        parts = Parts(
            image=self.lookup.image(role).id,
            flavor=flavor,
            network=self.lookup.network(),
            subnet=subnet,
            security_groups=self.lookup.security_groups(role),
            group=self._group(role, document.slot),
        )
        address = document.vrrp.service_address if document.vrrp is not None and self._vrrp else None
        pool = self.addresses.ensure(role, address) if role in ROLES else None
        ports = [self._port(what, document, bodies.replica_port(document, parts, address))]
        own = self._own_address(what, document, parts, ports) if role is Role.GATEWAY else None
        told_turn = role is Role.GATEWAY and not self._vrrp
        turn = self.addresses.ensure(Role.COTURN, None) if told_turn else None
        told = bodies.with_public(document, Public(pool, own, turn))
        body = bodies.server(document, parts, ports, self._settings, marked, bodies.user_data(told))
        made = self._cloud.post(what, "compute", "/servers", body)["server"]
        return str(made["id"]), flavor_name

    def _port(self, what: str, document: ReplicaDocument, body: Body) -> str:
        for attempt in range(2):
            try:
                return str(self._cloud.post(what, "network", "/ports", body)["port"]["id"])
            except Conflict:
                by = self._user_of(document.address)
                if attempt or not leftovers.release(self._cloud, self._stack, by, self._making_now()):
                    raise Conflict(
                        f"{what}: its address {document.address} is in use by {_named(by)}"
                    ) from None
        raise AssertionError("unreachable")

    def _user_of(self, address: IPv4Address) -> Body | None:
        query = {"network_id": self.lookup.network(), "fixed_ips": f"ip_address={address}"}
        return next(self._cloud.all(f"who has {address}", "network", "/ports", "ports", query), None)

    def _own_address(
        self, what: str, document: ReplicaDocument, parts: Parts, ports: list[str]
    ) -> IPv4Address | None:
        """A gateway's public address, made before the gateway, which is told of it."""
        if self._settings.public_address == "none":
            return None
        network = self.lookup.external_network()
        if network is None:
            raise Missing(
                f"{what}: the cloud has no external network for its public address",
                hint="set openstack.public_address: none",
            )
        if self._settings.public_address == "network":
            body = bodies.public_port(document, network, parts)
            port = self._cloud.post(what, "network", "/ports", body)["port"]
            ports.append(str(port["id"]))
            return IPv4Address(port["fixed_ips"][0]["ip_address"])
        body = bodies.floating_ip(network, marks.replica_mark(self._stack), ports[0])
        ip = self._cloud.post(f"floating IP of {document.name}", "network", "/floatingips", body)[
            "floatingip"
        ]
        return IPv4Address(ip["floating_ip_address"])

    def _group(self, role: Role, slot: int) -> str | None:
        """The id of the slot's server group. It is soft: where the quota of groups is used up it does
        without.
        """
        name, what = marks.group_name(self._stack, role, slot), f"server group of {role}"
        with self._groups:
            for group in leftovers.server_groups(self._cloud, self._stack):
                if group["name"] == name:
                    return str(group["id"])
            body = {"server_group": {"name": name, "policies": ["soft-anti-affinity"]}}
            try:
                return str(self._cloud.post(what, "compute", "/os-server-groups", body)["server_group"]["id"])
            except (QuotaExceeded, NotAllowed):
                return None

    def _wait(self, what: str, id_: str, flavor: str, zone: str) -> Body:
        """The server when it is built, or still being built after long."""
        until, server = time.monotonic() + BUILD_S, {"id": id_, "status": "BUILD"}
        while server["status"] == "BUILD" and time.monotonic() < until:
            time.sleep(_LOOK_S)
            with contextlib.suppress(Unavailable):
                server = self._cloud.get(what, "compute", f"/servers/{id_}")["server"]
        if server["status"] == "ERROR":
            raise explain_fault(what, server, flavor, zone)
        return server

    def _making_now(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._making)

    @contextlib.contextmanager
    def _under_way(self, name: str) -> Iterator[None]:
        with self._lock:
            if name in self._making:
                raise Conflict(f"replica {name}: an earlier request for it still runs")
            self._making.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._making.discard(name)


def _named(port: Body | None) -> str:
    if port is None:
        return "something that has just gone"
    of = f" of server {port['device_id']}" if port.get("device_id") else ""
    return f"the port {port.get('name') or port['id']}{of}"
