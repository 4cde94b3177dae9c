"""The lease on OpenStack: a port with a fixed address on a small network of its own.

Neutron gives an address to one port only, which makes creating that port the one atomic step that the
lease needs (measured: of 8 at a time exactly one succeeds; its revision numbers are no such thing). The
record is the port's description, given in the same request. Deleting is not exact in Neutron: of several
at a time each is told that it was its doing. So who deletes first takes a second address in the same
way, the *claim* (``docs/decisions/0110-openstack-marks-and-lease.md``).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.lease import LeaseGone, LeaseRecord, LeaseTaken, Mark
from sipmediadeploy.providers.openstack.cloud import Body, Cloud, in_thread
from sipmediadeploy.providers.openstack.errors import Conflict, Missing, Unavailable

PACE = 3.0
"""The lease's times are twice the usual ones: a Neutron that makes ports takes seconds for everything."""
REQUEST_TIMEOUT_S = 6.0
"""For a reading or a renewal: one that takes longer than the lease lasts is of no use. Not less: Neutron goes
on with what nobody waits for, and the next one waits behind it.
"""
_MAKE_TIMEOUT_S = 8.0
"""For a creation or a deletion: who does not wait for it does not know what he has left behind."""
_TIMEOUT_S = 8.0
_TAKE_TIMEOUT_S = 20.0
"""For a whole method: those that read or renew, and those that create or delete."""
STALE_CLAIM_S = 10.0
"""A claim that has been there for so long belongs to a scaler that died while it deleted a record."""

_threads = ThreadPoolExecutor(8, thread_name_prefix="lease")
"""Its own: a creation that hangs must not keep the lease from being renewed."""

_RECORD = re.compile(
    r"smd lease stack=(\S+) term=(\d+) counter=(\d+) released=([01]) paused=([01]) holder=(.*)"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Net:
    """The lease's network and the two addresses on it."""

    network: str
    subnet: str
    record: IPv4Address
    claim: IPv4Address


def network_name(stack: str) -> str:
    """The name of the lease's network, of which there must be exactly one."""
    return f"smd-{stack}-lease"


def write_record(stack: str, holder: str, term: int, mark: Mark) -> str:
    """A record as a port's description (at most 255 characters). Pure."""
    flags = f"counter={mark.counter} released={mark.released:d} paused={mark.paused:d}"
    return f"smd lease stack={stack} term={term} {flags} holder={holder}"


def read_record(stack: str, port: Body) -> LeaseRecord:
    """The record that a port holds. Pure.

    Raises:
        ProviderError: it holds none of the stack.
    """
    match = _RECORD.fullmatch(str(port.get("description", "")))
    if match is None or match.group(1) != stack:
        raise ProviderError(
            f"the port {port['id']} has the address of the lease of stack {stack}, and is no lease",
            hint="remove it",
        )
    term, counter, released, paused = (int(match.group(n)) for n in (2, 3, 4, 5))
    return LeaseRecord(str(port["id"]), match.group(6), term, Mark(counter, bool(released), bool(paused)))


class OpenStackLeaseStore:
    """Implements ``providers.lease.LeaseStore`` for one stack."""

    def __init__(self, stack: str, cloud: Cloud, patience: float = 1.0) -> None:
        """``cloud``: a connection with a short time limit for each request. All other time limits are
        multiplied by ``patience``.
        """
        self._patience = patience
        self._stack = stack
        self._cloud = cloud
        self._what = f"lease of stack {stack}"
        self._lock = threading.Lock()
        self._net: _Net | None = None
        self._known: dict[str, tuple[str, int]] = {}
        """By record: holder and term, which stay, while a change writes the whole description."""
        self._claim_seen: tuple[str, float] = ("", 0.0)
        self._lost_claims: set[str] = set()
        """Of these it is not known whether the cloud has made them."""

    @property
    def pace(self) -> float:
        """See ``LeaseStore.pace``."""
        return PACE

    async def read(self) -> LeaseRecord | None:
        """See ``LeaseStore.read``."""
        return await self._run("reading", _TIMEOUT_S, self._read)

    async def create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        """See ``LeaseStore.create``."""
        return await self._run("creating", _TAKE_TIMEOUT_S, lambda: self._create(holder, term, mark))

    async def change(self, record_id: str, mark: Mark) -> None:
        """See ``LeaseStore.change``."""
        await self._run("renewing", _TIMEOUT_S, lambda: self._change(record_id, mark))

    async def delete(self, record_id: str) -> bool:
        """See ``LeaseStore.delete``."""
        return await self._run("deleting", _TAKE_TIMEOUT_S, lambda: self._delete(record_id))

    def close(self) -> None:
        """Let go of its connection; see ``Provider.close``."""
        self._cloud.close()

    async def _run(self, what: str, limit_s: float, call: Callable[[], T]) -> T:
        return await in_thread(f"{what} the {self._what}", limit_s * self._patience, call, _threads)

    def _read(self) -> LeaseRecord | None:
        port = self._port_at(self._find_net().record)
        return self._remember(read_record(self._stack, port)) if port is not None else None

    def _create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        try:
            port = self._take(self._find_net().record, write_record(self._stack, holder, term, mark))
        except Conflict as e:
            raise LeaseTaken(str(e)) from None
        return self._remember(LeaseRecord(str(port["id"]), holder, term, mark))

    def _change(self, record_id: str, mark: Mark) -> None:
        try:
            if record_id not in self._known:
                body = self._cloud.get(f"reading the {self._what}", "network", f"/ports/{record_id}")
                self._remember(read_record(self._stack, body["port"]))
            holder, term = self._known[record_id]
            change = {"port": {"description": write_record(self._stack, holder, term, mark)}}
            self._cloud.put(f"renewing the {self._what}", "network", f"/ports/{record_id}", change)
        except Missing:
            raise LeaseGone(record_id) from None

    def _delete(self, record_id: str) -> bool:
        claim = self._claim(record_id)
        if claim is None:
            return False
        try:
            self._remove(record_id)
        except Missing:
            return False
        finally:
            with contextlib.suppress(ProviderError):  # it is stale before long, and then somebody removes it
                self._remove(claim)
        return True

    def _claim(self, record_id: str) -> str | None:
        """The id of a claim on the record; None: somebody else has one."""
        net = self._find_net()
        # To be told so by a creation costs the cloud ten times as much.
        there = self._port_at(net.claim)
        if there is not None:
            return self._found_claim(there)
        text = f"smd lease stack={self._stack} claim on {record_id} {secrets.token_hex(4)}"
        try:
            return str(self._take(net.claim, text)["id"])
        except Conflict:
            return None
        except Unavailable:
            with self._lock:
                self._lost_claims.add(text)
            raise

    def _found_claim(self, port: Body) -> str | None:
        """A claim that was there: the id if its creation was this store's, whose answer was lost."""
        text, id_ = str(port.get("description")), str(port["id"])
        with self._lock:
            if text in self._lost_claims:
                self._lost_claims.remove(text)
                return id_
            seen, since = self._claim_seen
            if seen != id_:
                self._claim_seen = id_, time.monotonic()
                return None
        if time.monotonic() - since >= STALE_CLAIM_S:
            with contextlib.suppress(ProviderError):
                self._remove(id_)
        return None

    def _take(self, address: IPv4Address, description: str) -> Body:
        net = self._find_net()
        port = {
            "name": network_name(self._stack),
            "description": description,
            "network_id": net.network,
            "fixed_ips": [{"subnet_id": net.subnet, "ip_address": str(address)}],
        }
        what, limit_s = f"creating the {self._what}", _MAKE_TIMEOUT_S * self._patience
        made: Body = self._cloud.post(what, "network", "/ports", {"port": port}, limit_s)["port"]
        return made

    def _remove(self, id_: str) -> None:
        what, limit_s = f"deleting the {self._what}", _MAKE_TIMEOUT_S * self._patience
        self._cloud.delete(what, "network", f"/ports/{id_}", limit_s)

    def _port_at(self, address: IPv4Address) -> Body | None:
        net = self._find_net()
        query = {"network_id": net.network, "fixed_ips": f"ip_address={address}"}
        found = self._cloud.all(f"reading the {self._what}", "network", "/ports", "ports", query)
        return next(found, None)

    def _remember(self, record: LeaseRecord) -> LeaseRecord:
        with self._lock:
            self._known = {**dict(list(self._known.items())[-8:]), record.id: (record.holder, record.term)}
        return record

    def _find_net(self) -> _Net:
        """Never made here: two scalers that did so at a time would have two leases."""
        if self._net is not None:
            return self._net
        name, what = network_name(self._stack), f"the network of the {self._what}"
        query = {"name": name, "project_id": self._cloud.project}
        found = list(self._cloud.all(what, "network", "/networks", "networks", query))
        if len(found) != 1:
            hint = "terraform apply or smd bootstrap makes it" if not found else "remove all but one"
            raise Missing(f"{what}: there are {len(found)} networks {name} and not one", hint=hint)
        network = str(found[0]["id"])
        subnets = list(
            self._cloud.all(what, "network", "/subnets", "subnets", {"network_id": network, "ip_version": 4})
        )
        if len(subnets) != 1 or IPv4Network(subnets[0]["cidr"]).prefixlen > 29:
            raise Missing(f"{what}: {name} needs one subnet, a /29, with no DHCP and no gateway")
        hosts = list(IPv4Network(subnets[0]["cidr"]).hosts())
        self._net = _Net(network, str(subnets[0]["id"]), hosts[0], hosts[1])
        return self._net
