"""The role kamailio on one replica."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address
from pathlib import Path

from sipmediadeploy.node.roles import keepalived
from sipmediadeploy.node.roles.base import RUN, Health, NoOrders, RenderedFile, RoleError, render_template
from sipmediadeploy.node.roles.kamailio import rpc
from sipmediadeploy.node.roles.kamailio.gateways import dispatcher_list, silent_gateways
from sipmediadeploy.protocol.agent import Gateways
from sipmediadeploy.protocol.replica import GATEWAY_SIP_PORT, KamailioService, ReplicaDocument
from sipmediadeploy.protocol.sip_options import Line, ProbeError, ask_options

LOOPBACK = IPv4Address("127.0.0.1")
USER = "kamailio"
ANSWER_S = 0.25
"""Kamailio answers OPTIONS in a millisecond. Two questions without an answer move the service address."""
RELOAD_S = 1.1
"""Between two reloads of the gateway list: Kamailio refuses a second one within a second, because one that
still reads the list before the last would lose it."""


class KamailioRole(NoOrders):
    """Renders Kamailio's configuration, checks it by OPTIONS and keeps its gateway list."""

    services: tuple[str, ...] = ("kamailio", keepalived.SERVICE)
    interval_s = 0.1
    patience_s = 0.0

    def __init__(
        self, document: ReplicaDocument, service: KamailioService, interface: str, gateways: Gateways
    ) -> None:
        if document.vrrp is None:
            self.services = ("kamailio",)
        self._document = document
        self._service = service
        self._interface = interface
        self._gateways = gateways
        self._reloaded_at = float("-inf")
        self._line = Line(LOOPBACK, service.port)
        self.directory = RUN / "kamailio"

    def render(self) -> dict[Path, RenderedFile]:
        """See :class:`NodeRole`."""
        config = render_config(self._document, self._service, self.directory)
        files = {
            self.directory / "kamailio.cfg": RenderedFile(config, USER),
            self.directory / "dispatcher.list": RenderedFile(
                dispatcher_list(self._gateways), USER, live=True
            ),
        }
        return files | keepalived.render(self._document, self._interface)

    async def check(self) -> Health:
        """Healthy means: OPTIONS to the loopback socket is answered 200."""
        try:
            await ask_options(self._line, ANSWER_S)
        except ProbeError as e:
            return Health(False, f"kamailio: {e}")
        return Health(True, "answers OPTIONS")

    async def set_gateways(self, gateways: Gateways) -> None:
        """See :class:`NodeRole`."""
        if gateways.gateways == self._gateways.gateways:
            return
        try:
            silent = await self._silent()
            # In place: the file stays Kamailio's user's. It is read when told to, and at each start.
            (self.directory / "dispatcher.list").write_text(
                dispatcher_list(gateways, silent), encoding="utf-8"
            )
            await self._reload()
            self._gateways = gateways
        except rpc.RpcError as e:
            raise RoleError(f"kamailio did not take the gateway list: {e}") from None
        except OSError as e:
            raise RoleError(f"the gateway list can't be written: {e}") from None

    async def _reload(self) -> None:
        for attempt in range(3):
            await asyncio.sleep(self._reloaded_at + RELOAD_S - time.monotonic())
            self._reloaded_at = time.monotonic()
            try:
                await rpc.call(self.directory / "rpc.sock", "dispatcher.reload")
                return
            except rpc.NoAnswer:
                raise
            except rpc.RpcError:
                if attempt == 2:
                    raise

    async def _silent(self) -> frozenset[str]:
        try:
            listing = await rpc.call(self.directory / "rpc.sock", "dispatcher.list")
        except rpc.NoAnswer:
            raise
        except rpc.RpcError:  # how an empty list is told: "No Destination Sets"
            return frozenset()
        return silent_gateways(listing) if isinstance(listing, dict) else frozenset()

    async def close(self) -> None:
        """See :class:`NodeRole`."""
        self._line.close()


def render_config(document: ReplicaDocument, service: KamailioService, run: Path) -> str:
    """Kamailio's configuration. Pure."""
    return render_template(
        "sipmediadeploy.node.roles.kamailio",
        "kamailio.cfg.j2",
        address=document.address,
        service_address=service.service_address,
        port=service.port,
        gateway_port=service.gateway_port,
        gateway_sip_port=GATEWAY_SIP_PORT,
        advertise=service.advertise,
        domain=service.domain,
        network=service.network,
        trusted=service.trusted,
        allow=service.allow,
        run=run,
        # Without a scaler a new list comes by a new document: the configuration has to differ for it.
        given=Gateways(term=0, gateways=service.gateways).revision if service.gateways else None,
    )
