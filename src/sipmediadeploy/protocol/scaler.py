"""The scalers' HTTP API, version 1, for operators and for other scalers; and its client."""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sipmediadeploy.protocol.secrets import derive

SCALER_PORT = 8801
API_PORT = 8843
"""Where operators reach the API from outside of the stack's network, by HTTPS."""
_LIMIT_S = 20.0
"""A planned failover is answered when it is done."""

Command = Literal["pause", "resume", "failover", "drain", "undrain", "replace"]


def operator_token(master: str) -> str:
    """The bearer token of the scalers' API."""
    return derive(master, "scaler-api")


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Entry(_Message):
    """One thing that was seen, decided or done."""

    id: str = Field(description="unique; the same wherever the entry was copied to")
    at: float = Field(description="Unix time in seconds")
    who: str = Field(description="the scaler that wrote it")
    event: str
    fields: dict[str, Any] = {}


class Trail(_Message):
    """``GET /v1/events``: what a scaler knows of, in the order in which it came to know of it."""

    boot: str = Field(description="changes when the scaler is started: positions begin anew then")
    position: int = Field(description="of the last entry; ask for what comes ``after`` it")
    entries: tuple[Entry, ...]


class View(_Message):
    """``GET /v1/scaler``: what a scaler makes of the stack."""

    name: str
    leading: bool
    leader: str | None
    term: int
    paused: bool
    problems: tuple[str, ...]
    underway: tuple[str, ...] = Field(description="what has been begun: 'create demo-gateway-3: why'")


class Request(_Message):
    """Body of ``POST /v1/COMMAND``: what it is for (a pool, a replica, or nothing)."""

    target: str = ""


class Answer(_Message):
    """What became of a command."""

    text: str


class ScalerError(Exception):
    """A scaler could not be asked, or refused. The message says why."""


class ScalerAway(ScalerError):
    """It does not answer: another one may."""


class ScalerClient:
    """Asks scalers; a standby sends commands on to the leader."""

    def __init__(self, token: str, port: int = SCALER_PORT) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def view(self, address: str) -> View:
        """See :class:`View`. Raises ScalerError."""
        return View.model_validate_json(await self._ask("GET", address, "scaler", 2.0))

    async def events(self, address: str, boot: str = "", after: int = 0, limit_s: float = 2.0) -> Trail:
        """The entries after position ``after`` of the trail ``boot``, or all. Raises ScalerError."""
        what = f"events?boot={boot}&after={after}"
        try:
            return Trail.model_validate_json(await self._ask("GET", address, what, limit_s))
        except ValidationError as e:
            raise ScalerError(f"the answer is no trail: {e.error_count()} errors") from None

    async def command(self, address: str, command: Command, target: str = "") -> str:
        """Have it done; what to tell the operator. Raises ScalerError."""
        body = Request(target=target).model_dump()
        return Answer.model_validate_json(await self._ask("POST", address, command, _LIMIT_S, body)).text

    async def _ask(
        self,
        method: str,
        address: str,
        what: str,
        limit_s: float,
        body: Any = None,
        *,
        sent_on: bool = False,
    ) -> bytes:
        if self._session is None:
            raise ScalerError("the client is not open")
        url = f"http://{address}:{self._port}/v1/{what}"
        timeout = aiohttp.ClientTimeout(total=limit_s)
        try:
            async with self._session.request(
                method, url, json=body, headers=self._headers, timeout=timeout, allow_redirects=False
            ) as answer:
                text = await answer.read()
                if answer.status == 307 and not sent_on:
                    leader = urlsplit(answer.headers["Location"]).hostname or address
                    return await self._ask(method, leader, what, limit_s, body, sent_on=True)
                if answer.status == 503:
                    raise ScalerAway(text[:500].decode(errors="replace"))
                if answer.status >= 300:
                    raise ScalerError(text[:500].decode(errors="replace") or f"HTTP {answer.status}")
                return text
        except TimeoutError:
            raise ScalerAway(f"no answer from the scaler at {address} within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise ScalerAway(f"the scaler at {address}: {e}") from None
