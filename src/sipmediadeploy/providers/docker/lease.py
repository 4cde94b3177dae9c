"""The lease on Docker: a container of a fixed name that is never started.

The engine gives a name to one container only, which makes creating it the one atomic step that the lease
needs. Holder and term are labels, which can't be changed; the mark is the container's CPU shares, a number
that the engine changes in one step, by the container's id, within 5 ms, and that means nothing to a container
that does not run (``docs/decisions/0061-the-lease.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
from docker.errors import APIError, ImageNotFound, NotFound

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.docker import labels
from sipmediadeploy.providers.docker.engine import KeptClient, in_thread, reason
from sipmediadeploy.providers.lease import LeaseGone, LeaseRecord, LeaseTaken, Mark
from sipmediadeploy.stack import Role

_TIMEOUT_S = 3
_MEMORY = 16 * 1024 * 1024
_BASE, _COUNTERS = 16, 60_000
"""CPU shares go from 2 to 262,144: sixteen, and four for each value of the counter."""

_threads = ThreadPoolExecutor(4, thread_name_prefix="lease")
"""Its own: a creation that hangs must not keep the lease from being renewed."""

T = TypeVar("T")


def shares_of(mark: Mark) -> int:
    """A mark as CPU shares. Pure."""
    return _BASE + 4 * (mark.counter % _COUNTERS) + 2 * mark.released + mark.paused


def mark_of(shares: int) -> Mark:
    """The mark that :func:`shares_of` made them from. Pure."""
    value = max(shares - _BASE, 0)
    return Mark(counter=value // 4, released=bool(value & 2), paused=bool(value & 1))


class DockerLeaseStore:
    """Implements ``providers.lease.LeaseStore`` for one stack."""

    def __init__(self, stack: str, image_version: str) -> None:
        """The container is made from the scaler's image of ``image_version``."""
        self._stack = stack
        self._image = labels.image_name(Role.SCALER, image_version)
        self._name = labels.container_name(stack, f"{stack}-lease")
        self._engine = KeptClient(_TIMEOUT_S)

    @property
    def pace(self) -> float:
        """See ``LeaseStore.pace``."""
        return 1.0

    async def read(self) -> LeaseRecord | None:
        """See ``LeaseStore.read``."""
        return await self._run("reading", self._read)

    async def create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        """See ``LeaseStore.create``."""
        return await self._run("creating", lambda client: self._create(client, holder, term, mark))

    async def change(self, record_id: str, mark: Mark) -> None:
        """See ``LeaseStore.change``."""
        await self._run("renewing", lambda client: _change(client, record_id, mark))

    async def delete(self, record_id: str) -> bool:
        """See ``LeaseStore.delete``."""
        return await self._run("deleting", lambda client: _delete(client, record_id))

    async def _run(self, what: str, call: Callable[[docker.DockerClient], T]) -> T:
        def run() -> T:
            return call(self._engine.get())

        return await in_thread(f"{what} the lease of stack {self._stack}", _TIMEOUT_S, run, _threads)

    def _read(self, client: docker.DockerClient) -> LeaseRecord | None:
        try:
            return self._record(client.api.inspect_container(self._name))
        except NotFound:
            return None

    def _record(self, attrs: dict[str, Any]) -> LeaseRecord:
        marks = attrs["Config"].get("Labels") or {}
        if marks.get(labels.STACK) != self._stack or marks.get(labels.KIND) != labels.LEASE:
            raise ProviderError(f"the container {self._name} is not the lease of stack {self._stack}")
        try:
            term = int(marks[labels.TERM])
            shares = int(attrs["HostConfig"]["CpuShares"])
        except (KeyError, ValueError):
            raise ProviderError(f"the container {self._name} is no lease that can be read") from None
        return LeaseRecord(str(attrs["Id"]), marks.get(labels.HOLDER, ""), term, mark_of(shares))

    def _create(self, client: docker.DockerClient, holder: str, term: int, mark: Mark) -> LeaseRecord:
        marks = {
            labels.STACK: self._stack,
            labels.KIND: labels.LEASE,
            labels.HOLDER: holder,
            labels.TERM: str(term),
        }
        api = client.api
        # Should anybody start it, it can do nothing.
        confined = api.create_host_config(
            cpu_shares=shares_of(mark),
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=_MEMORY,
            memswap_limit=_MEMORY,
        )
        try:
            made = api.create_container(
                self._image, command=["/bin/false"], name=self._name, labels=marks, host_config=confined
            )
        except ImageNotFound:
            raise ProviderError(f"image {self._image} is missing: smd up builds it") from None
        except APIError as e:
            if e.status_code == 409:
                raise LeaseTaken(reason(e)) from None
            raise
        return LeaseRecord(str(made["Id"]), holder, term, mark)


def _change(client: docker.DockerClient, record_id: str, mark: Mark) -> None:
    try:
        client.api.update_container(record_id, cpu_shares=shares_of(mark))
    except NotFound:
        raise LeaseGone(record_id) from None


def _delete(client: docker.DockerClient, record_id: str) -> bool:
    try:
        client.api.remove_container(record_id, force=True)
    except NotFound:
        return False
    except APIError as e:
        if e.status_code == 409:  # another's removal of it is under way
            return False
        raise
    return True
