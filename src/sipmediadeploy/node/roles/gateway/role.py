"""The role gateway on one replica."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from sipmediadeploy.node.roles.base import RUN, Health, RenderedFile, RoleError
from sipmediadeploy.protocol.agent import Gateways
from sipmediadeploy.protocol.replica import GatewayService, ReplicaDocument
from sipmediadeploy.protocol.sip_options import Line, ProbeError, ask_options

USER = "smd"
SOCKET = RUN / "gateway.sock"
"""The server's control socket: HTTP with ``GET /status`` and ``POST /drain``, ``/undrain``, ``/retire``."""
_CHECK_S = 0.5
_ORDER_S = 2.0


class GatewayRole:
    """Hands the document to the server, and orders and questions to its control socket."""

    services = ("gateway",)
    interval_s = 0.5
    patience_s = 3.0
    """A worker that was taken, or a server that was restarted, is replaced within this."""

    def __init__(self, document: ReplicaDocument, service: GatewayService, socket: Path = SOCKET) -> None:
        self._document = document
        self._service = service
        self._socket = socket
        self._line = Line(document.address, service.sip_port, local=document.address)
        self._session: aiohttp.ClientSession | None = None

    def render(self) -> dict[Path, RenderedFile]:
        """The document without the agent's token, readable by the server's user."""
        document = self._document.model_copy(update={"agent_token": ""})
        return {RUN / "gateway" / "replica.yaml": RenderedFile(document.to_yaml(), USER)}

    async def check(self) -> Health:
        """Healthy means: OPTIONS is answered, and a media worker is ready while a place is free."""
        try:
            status = await self._ask("GET", "status", _CHECK_S)
            # 503 is how a gateway tells that it wants no new call; its status says why.
            await ask_options(self._line, _CHECK_S, good=(200, 503))
        except (RoleError, ProbeError) as e:
            return Health(False, f"gateway: {e}")
        return judge(status)

    async def drain(self) -> None:
        """See :class:`Orders`."""
        await self._ask("POST", "drain", _ORDER_S)

    async def undrain(self) -> None:
        """See :class:`Orders`."""
        await self._ask("POST", "undrain", _ORDER_S)

    async def retire(self) -> None:
        """See :class:`Orders`."""
        await self._ask("POST", "retire", _ORDER_S)

    async def set_gateways(self, gateways: Gateways) -> None:
        """Refused: only Kamailio has gateways."""
        raise RoleError(f"this replica takes no gateway list ({len(gateways.gateways)} sent): not a kamailio")

    async def metrics(self) -> bytes:
        """See :class:`NodeRole`."""
        try:
            return (await self._request("GET", "metrics", _CHECK_S)).encode()
        except RoleError:
            return b""

    async def close(self) -> None:
        """See :class:`NodeRole`."""
        self._line.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, what: str, limit_s: float) -> Any:
        text = await self._request(method, what, limit_s)
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise RoleError(f"{what} was answered something that is not JSON") from None

    async def _request(self, method: str, what: str, limit_s: float) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket)))
        timeout = aiohttp.ClientTimeout(total=limit_s)
        try:
            async with self._session.request(method, f"http://gateway/{what}", timeout=timeout) as response:
                text = await response.text()
                if response.status >= 300:
                    raise RoleError(f"{what} was answered {response.status} {text[:200]}")
                return text
        except TimeoutError:
            raise RoleError(f"no answer to {what} within {limit_s:g} s on {self._socket}") from None
        except (aiohttp.ClientError, OSError, UnicodeDecodeError) as e:
            raise RoleError(f"{what} on {self._socket}: {e}") from None


def judge(status: Any) -> Health:
    """Health by the server's status: its calls, capacity, ready workers, whether it drains or is retired."""
    try:
        calls, capacity = int(status["calls"]), int(status["capacity"])
        ready = int(status["ready_workers"])
        draining, retired = bool(status["draining"]), bool(status["retired"])
    except (KeyError, TypeError, ValueError):
        return Health(False, "gateway: its status can't be understood")
    if ready == 0 and calls < capacity and not (draining or retired):
        why = status.get("worker_error") or "it is being started"
        return Health(False, f"gateway: no media worker is ready: {why}", calls, capacity, retired, draining)
    return Health(
        True, f"{calls} of {capacity} calls, {ready} workers ready", calls, capacity, retired, draining
    )
