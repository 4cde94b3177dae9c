"""Replicas as servers on an OpenStack cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import FloatingIp, ProviderError, ReplicaRecord
from sipmediadeploy.providers.openstack.cloud import Cloud, in_thread, read_credentials
from sipmediadeploy.providers.openstack.lease import REQUEST_TIMEOUT_S, OpenStackLeaseStore
from sipmediadeploy.providers.openstack.leftovers import Report, remove_stack
from sipmediadeploy.providers.openstack.replicas import Replicas
from sipmediadeploy.stack import Limits, OpenStack, Role, Stack

_READ_TIMEOUT_S = 10.0
_MAP_TIMEOUT_S = 30.0
_CREATE_TIMEOUT_S = 170.0
_DELETE_TIMEOUT_S = 58.0
"""Just under the scaler's own limits, so that the error says what the cloud did not do."""

Credentials = Callable[[], Mapping[str, Any]]


class OpenStackProvider:
    """Makes, lists and deletes the servers of one stack. Implements ``providers.base.Provider``."""

    def __init__(self, stack: str, settings: OpenStack, version: str, credentials: Credentials) -> None:
        """``version``: of the images that replicas are made from. Nothing is read or sent yet."""
        self._stack = stack
        self._settings = settings
        self._cloud = Cloud(credentials)
        self._replicas = Replicas(self._cloud, stack, settings, version)
        self._lease = OpenStackLeaseStore(stack, Cloud(credentials, REQUEST_TIMEOUT_S))

    @property
    def cloud(self) -> Cloud:
        """The connection to the cloud."""
        return self._cloud

    @property
    def service_addresses(self) -> bool:
        """See ``Provider.service_addresses``."""
        return self._settings.service_addresses == "vrrp"

    @property
    def api_floating_ip(self) -> bool:
        """See ``Provider.api_floating_ip``."""
        return self._settings.has_public_api

    @property
    def zones(self) -> tuple[str, ...]:
        """See ``Provider.zones``."""
        return self._settings.zones

    async def inventory(self) -> list[ReplicaRecord]:
        """All servers of the stack, those in ERROR included; see ``Provider.inventory``."""
        return await in_thread(f"inventory of stack {self._stack}", _READ_TIMEOUT_S, self._replicas.inventory)

    async def floating_ips(self) -> list[FloatingIp]:
        """See ``Provider.floating_ips``. A gateway's own are not among them."""
        return await in_thread(
            f"floating IPs of stack {self._stack}", _READ_TIMEOUT_S, self._replicas.addresses.mapped
        )

    async def map_floating_ip(self, address: IPv4Address, to: str) -> None:
        """See ``Provider.map_floating_ip``."""
        what = f"mapping {address} to {to}"
        await in_thread(what, _MAP_TIMEOUT_S, lambda: self._replicas.addresses.map(address, to))

    async def make_floating_ip(self, role: Role, to: str) -> None:
        """See ``Provider.make_floating_ip``."""
        what = f"floating IP of {role}"
        await in_thread(what, _MAP_TIMEOUT_S, lambda: self._replicas.addresses.make(role, to))

    async def create(self, document: ReplicaDocument, limits: Limits, zone: str = "") -> ReplicaRecord:
        """Make one server and look on until it is built; see ``Provider.create``."""
        if zone and zone not in self.zones:
            raise ProviderError(f"replica {document.name}: zone {zone} is not one of openstack.zones")
        what = f"replica {document.name}"
        return await in_thread(what, _CREATE_TIMEOUT_S, lambda: self._replicas.create(document, limits, zone))

    async def delete(self, replica_id: str) -> None:
        """Remove a server with its ports and its own floating IP; see ``Provider.delete``."""
        what = f"deleting server {replica_id}"
        await in_thread(what, _DELETE_TIMEOUT_S, lambda: self._replicas.delete(replica_id))

    def lease(self) -> OpenStackLeaseStore:
        """See ``Provider.lease``."""
        return self._lease

    async def subnet(self) -> IPv4Network:
        """The range of the stack's own network, by which its replicas' addresses are planned.

        Raises:
            ProviderError: the network is missing, or is no /24.
        """

        def find() -> IPv4Network:
            _, subnet = self._replicas.lookup.subnet()
            if subnet.prefixlen != 24:
                raise ProviderError(
                    f"the network of stack {self._stack} is {subnet}", hint="it must be a /24"
                )
            return subnet

        return await in_thread(f"network of stack {self._stack}", _READ_TIMEOUT_S, find)

    async def remove_all(self, report: Report = lambda _line: None) -> int:
        """Remove all that was made of the stack; see :func:`leftovers.remove_stack`."""
        what = f"removing stack {self._stack}"
        return await in_thread(what, 600.0, lambda: remove_stack(self._cloud, self._stack, report))

    def close(self) -> None:
        """See ``Provider.close``."""
        self._cloud.close()
        self._lease.close()


def make_provider(stack: Stack, version: str, secrets: Secrets) -> OpenStackProvider:
    """See ``providers.base.MakeProvider``. A scaler has the cloud's credentials among its secrets; a
    command on an operator's machine reads ``clouds.yaml`` or the environment.
    """
    settings = stack.openstack or OpenStack()
    given = secrets.cloud

    def credentials() -> Mapping[str, Any]:
        return given if given is not None else read_credentials(settings.cloud)

    return OpenStackProvider(stack.name, settings, version, credentials)
