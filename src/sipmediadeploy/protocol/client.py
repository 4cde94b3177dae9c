"""The client of the agents' HTTP API, for scalers and the CLI."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, Protocol, Self

import aiohttp
from pydantic import ValidationError

from sipmediadeploy.protocol.agent import Gateways, Order, Status
from sipmediadeploy.protocol.replica import AGENT_PORT
from sipmediadeploy.providers.base import Life, ReplicaRecord
from sipmediadeploy.stack import Role

ANSWER_LIMIT_S = 1.0
"""A status that takes longer is no answer."""
ORDER_LIMIT_S = 3.0
LOGS_LIMIT_S = 8.0
MOST_LINES = 10_000
"""Of logs that an agent is asked for at a time."""


class AgentError(Exception):
    """An agent could not be asked, or refused. The message says how."""


class WrongToken(AgentError):
    """The agent is well and does not know the token: it was made with another master secret."""


class Agents(Protocol):
    """The agents of a stack's replicas. Every method has a time limit and raises :class:`AgentError`."""

    async def status(self, record: ReplicaRecord) -> Status:
        """What the replica says of itself."""
        ...

    async def order(self, record: ReplicaRecord, what: str, order: Order) -> None:
        """Give the order ``what``: 'drain', 'undrain' or 'retire'."""
        ...

    async def set_gateways(self, record: ReplicaRecord, gateways: Gateways) -> None:
        """Tell a Kamailio's agent which gateways to use."""
        ...


class HttpAgents:
    """:class:`Agents` by HTTP, over connections that are kept."""

    def __init__(self, token_of: Callable[[str], str], port: int = AGENT_PORT) -> None:
        """``token_of`` gives the token of the agent of the replica with that name."""
        self._token_of = token_of
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def status(self, record: ReplicaRecord) -> Status:
        """See :class:`Agents`."""
        try:
            return Status.model_validate_json(await self._ask(record, "GET", "status", None, ANSWER_LIMIT_S))
        except ValidationError as e:
            raise AgentError(f"the answer is not a status: {e.error_count()} errors") from None

    async def order(self, record: ReplicaRecord, what: str, order: Order) -> None:
        """See :class:`Agents`."""
        await self._ask(record, "POST", what, order.model_dump(mode="json"), ORDER_LIMIT_S)

    async def set_gateways(self, record: ReplicaRecord, gateways: Gateways) -> None:
        """See :class:`Agents`."""
        await self._ask(record, "PUT", "gateways", gateways.model_dump(mode="json"), ORDER_LIMIT_S)

    async def logs(self, record: ReplicaRecord, lines: int) -> str:
        """The last ``lines`` lines of each of the replica's services' logs; at least one, at most
        :data:`MOST_LINES`.

        Raises:
            AgentError: the agent can't be asked, or refuses.
        """
        lines = min(max(lines, 1), MOST_LINES)
        answer = await self._ask(record, "GET", f"logs?lines={lines}", None, LOGS_LIMIT_S)
        return answer.decode(errors="replace")

    async def _ask(self, record: ReplicaRecord, method: str, what: str, body: Any, limit: float) -> bytes:
        if self._session is None:
            raise AgentError("the client is not open")
        url = f"http://{record.address}:{self._port}/v1/{what}"
        headers = {"Authorization": f"Bearer {self._token_of(record.name)}"}
        timeout = aiohttp.ClientTimeout(total=limit)
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                text = await response.read()
                if response.status >= 300:
                    kind = WrongToken if response.status == 401 else AgentError
                    raise kind(f"{method} {what}: {response.status} {text[:200].decode(errors='replace')}")
                return text
        except TimeoutError:
            raise AgentError(f"{method} {what}: no answer within {limit:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise AgentError(f"{method} {what}: {e}") from None


async def ask_status(address: IPv4Address, port: int, token: str) -> Status:
    """What one agent says, by its address alone.

    Raises:
        AgentError: it can't be asked, or refuses.
    """
    record = ReplicaRecord(
        id="", name="", role=Role.GATEWAY, slot=0, address=address, life=Life.RUNNING, created_at=0.0,
        config_hash="", version="",
    )  # fmt: skip
    async with HttpAgents(lambda _: token, port) as agents:
        return await agents.status(record)
