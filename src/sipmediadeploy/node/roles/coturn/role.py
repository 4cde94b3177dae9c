"""The role coturn on one replica."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from sipmediadeploy.node.roles import keepalived
from sipmediadeploy.node.roles.base import RUN, Health, NoOrders, RenderedFile, RoleError, render_template
from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.replica import CoturnService, ReplicaDocument
from sipmediadeploy.protocol.sip_options import Line, ProbeError

USER = "turnserver"
ALLOCATE_EVERY_S = 5.0
"""Every allocation is several lines in coturn's log; in between, a Binding request shows that it lives."""
_ANSWER_S, _ALLOCATION_S = 0.25, 0.5
_USER_QUOTA = 64
_LOOPBACK = IPv4Address("127.0.0.1")

DENIED_PEERS = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "240.0.0.0/4",
    )
)
"""Private, shared, loopback, link-local and reserved networks (RFC 6890)."""


class CoturnRole(NoOrders):
    """Renders coturn's configuration and checks it by an allocation."""

    services: tuple[str, ...] = ("coturn", keepalived.SERVICE)
    interval_s = 0.1
    patience_s = 0.0

    def __init__(self, document: ReplicaDocument, service: CoturnService, interface: str) -> None:
        if document.vrrp is None:
            self.services = ("coturn",)
        self._document = document
        self._service = service
        self._interface = interface
        self._allocated_at = float("-inf")
        self._line = Line(_LOOPBACK, service.port)

    def render(self) -> dict[Path, RenderedFile]:
        """See :class:`NodeRole`."""
        directory = RUN / "coturn"
        files = {directory / "turnserver.conf": RenderedFile(render_config(self._service, directory), USER)}
        return files | keepalived.render(self._document, self._interface)

    async def check(self) -> Health:
        """Healthy means: a client with credentials gets an allocation."""
        now = asyncio.get_running_loop().time()
        try:
            # The quicker question first: of a stopped server it tells as much.
            await turn.binding(self._line, _ANSWER_S)
            if now - self._allocated_at >= ALLOCATE_EVERY_S:
                await turn.allocate(_LOOPBACK, self._service.port, self._service.secret, _ALLOCATION_S)
                self._allocated_at = now
        except ProbeError as e:
            self._allocated_at = float("-inf")
            return Health(False, f"coturn: {e}")
        return Health(True, "gives allocations")

    async def close(self) -> None:
        """See :class:`NodeRole`."""
        self._line.close()


def render_config(service: CoturnService, run: Path) -> str:
    """Coturn's configuration. Pure.

    Raises:
        RoleError: the relay ports are not a range.
    """
    first, last = service.relay_ports
    if not 1024 <= first <= last <= 65535:
        raise RoleError(f"relay_ports {first} to {last} is not a range of ports above 1023")
    return render_template(
        "sipmediadeploy.node.roles.coturn",
        "turnserver.conf.j2",
        service=service,
        run=run,
        user_quota=_USER_QUOTA,
        total_quota=last - first + 1,
        denied=[(network[0], network[-1]) for network in DENIED_PEERS],
        allowed=[(network[0], network[-1]) for network in service.allowed_peers],
    )
