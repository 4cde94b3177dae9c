"""The scalers' HTTP API, version 1, for operators and for other scalers; and its client."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sipmediadeploy.protocol.client import LOGS_LIMIT_S
from sipmediadeploy.protocol.secrets import derive
from sipmediadeploy.protocol.seen import StackNow

SCALER_PORT = 8801
API_PORT = 8843
"""Of the same API over HTTPS (``protocol.scaler_tls``), for who is outside of the stack's network."""
_LIMIT_S = 20.0
"""A planned failover is answered when it is done."""
_OUTSIDE_S = 8.0
"""So much longer an answer may take over HTTPS: the way is longer, and a standby asks the leader."""

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


def newest(entries: Iterable[Entry], count: int) -> tuple[Entry, ...]:
    """The ``count`` newest, the last one last. (What was copied from another scaler comes late.)"""
    return tuple(sorted(entries, key=lambda entry: entry.at)[-count:])


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
    """It can't answer now: another one may."""


class ScalerSilent(ScalerAway):
    """Nobody answers there."""


class WrongScaler(ScalerError):
    """Whoever answers there is not a scaler of this stack with this master secret."""


_M = TypeVar("_M", bound=BaseModel)


class ScalerClient:
    """Asks scalers; a standby sends commands on to the leader."""

    def __init__(self, token: str, port: int = SCALER_PORT, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: they are asked over HTTPS (see ``protocol.scaler_tls.client_context``)."""
        self._headers = {"Authorization": f"Bearer {token}"}
        self._port = port
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def view(self, address: str) -> View:
        """See :class:`View`. Raises ScalerError."""
        return await self._read(View, address, "scaler", 2.0)

    async def stack(self, address: str) -> StackNow:
        """See :class:`StackNow`. Raises ScalerError."""
        return await self._read(StackNow, address, "stack", 4.0)

    async def events(self, address: str, boot: str = "", after: int = 0, limit_s: float = 2.0) -> Trail:
        """The entries after position ``after`` of the trail ``boot``, or all. Raises ScalerError."""
        what = f"events?boot={boot}&after={after}"
        return await self._read(Trail, address, what, limit_s)

    async def newest(self, address: str, count: int) -> tuple[Entry, ...]:
        """The ``count`` newest entries. Raises ScalerError."""
        return newest((await self._read(Trail, address, f"events?last={count}", 2.0)).entries, count)

    async def logs(self, address: str, replica: str, lines: int) -> str:
        """The last ``lines`` lines of each of the replica's services' logs. Raises ScalerError."""
        what = f"logs?replica={quote(replica, safe='')}&lines={lines}"
        return (await self._ask("GET", address, what, LOGS_LIMIT_S + 1.0)).decode(errors="replace")

    async def command(self, address: str, command: Command, target: str = "") -> str:
        """Have it done; what to tell the operator. Raises ScalerError."""
        body = Request(target=target).model_dump()
        return Answer.model_validate_json(await self._ask("POST", address, command, _LIMIT_S, body)).text

    async def _read(self, kind: type[_M], address: str, what: str, limit_s: float) -> _M:
        text = await self._ask("GET", address, what, limit_s)
        try:
            return kind.model_validate_json(text)
        except ValidationError as e:
            wrong = f"{e.error_count()} errors; is the scaler of another version?"
            raise ScalerError(
                f"what it says of {what.partition('?')[0]} is not understood: {wrong}"
            ) from None

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
        scheme = "http" if self._tls is None else "https"
        url, where = f"{scheme}://{address}:{self._port}/v1/{what}", f"the scaler at {address}:{self._port}"
        limit_s += 0.0 if self._tls is None else _OUTSIDE_S
        timeout = aiohttp.ClientTimeout(total=limit_s)
        try:
            async with self._session.request(
                method,
                url,
                json=body,
                headers=self._headers,
                timeout=timeout,
                allow_redirects=False,
                ssl=self._tls or True,
            ) as answer:
                text = await answer.read()
                if answer.status == 307 and not sent_on and self._tls is None:
                    leader = urlsplit(answer.headers["Location"]).hostname or address
                    return await self._ask(method, leader, what, limit_s, body, sent_on=True)
                if answer.status == 503:
                    raise ScalerAway(text[:500].decode(errors="replace"))
                if answer.status >= 300:
                    raise ScalerError(text[:500].decode(errors="replace") or f"HTTP {answer.status}")
                return text
        except TimeoutError:
            raise ScalerSilent(f"no answer from {where} within {limit_s:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            raise WrongScaler(
                f"{where} has another key: it belongs to another stack, or was made with another secrets file"
            ) from None
        except aiohttp.ClientSSLError as e:
            raise WrongScaler(f"{where} does not speak as a scaler does: {e}") from None
        except (aiohttp.ClientError, OSError) as e:
            raise ScalerSilent(f"{where}: {e}") from None
