"""A proxy before the APIs of a cloud that does wrong what a test tells it to.

It passes requests on to Keystone, and to every service in the catalog of the tokens that Keystone gives:
addresses in answers are rewritten, so that all that follows comes to the proxy too. It has a thread of its
own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

IDENTITY = "identity"
_NOT_PASSED_ON = (
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "accept-encoding",
)
_NOT_PASSED_BACK = ("connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding")
_LIMIT_S = 120.0

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Fault:
    """What goes wrong with requests whose 'METHOD service /path' matches ``request``."""

    kind: Literal["answer", "hang", "cut", "cut after"]
    """Answer in the cloud's place, never answer, cut the connection, or cut it when the cloud has done it."""
    request: str = ""
    status: int = 503
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    lasts_s: float = math.inf
    """It is over by itself after so long."""
    times: float = math.inf
    """How many requests it meets at most."""
    after: Fault | None = None
    """It begins only when that one has met a request."""
    met: int = 0
    """How many it has met."""
    since: float = field(default_factory=time.monotonic)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def left_s(self) -> float:
        """How long it lasts yet."""
        return 0.0 if self.over.is_set() else max(0.0, self.since + self.lasts_s - time.monotonic())


@dataclass(frozen=True, slots=True)
class Request:
    """One that has come, whatever became of it."""

    at: float
    """``time.monotonic()``."""
    method: str
    service: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.service} {self.path}"


class FaultProxy:
    """Between a provider and one cloud; :meth:`credentials` leads through it."""

    def __init__(self, auth_url: str) -> None:
        """``auth_url``: of the cloud's Keystone."""
        parts = urlsplit(auth_url)
        self._origins = {IDENTITY: f"{parts.scheme}://{parts.netloc}"}
        self._auth_path = parts.path
        self._url = ""
        self._faults: list[Fault] = []
        self._requests: list[Request] = []
        self._expired: set[str] = set()
        self._tokens: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._open: set[asyncio.Transport] = set()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        if not self._ready.wait(10.0):
            raise AssertionError("the fault proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10.0)

    def credentials(self, of: Mapping[str, Any]) -> dict[str, Any]:
        """Credentials of the cloud, by way of the proxy."""
        return {**of, "auth": {**of["auth"], "auth_url": f"{self._url}/{IDENTITY}{self._auth_path}"}}

    # What goes wrong

    def begin(self, fault: Fault) -> Fault:
        """Do it from now on; a cut ends connections that are open, too."""
        self._do(self._begin(fault))
        return fault

    def end(self, fault: Fault) -> None:
        """Do it no more: what hangs is cut."""
        self._do(self._end([fault]))

    def heal(self) -> None:
        """All is well again."""
        self._do(self._end(list(self._faults)))

    @contextlib.contextmanager
    def wrong(self, fault: Fault) -> Iterator[Fault]:
        """Do it meanwhile."""
        self.begin(fault)
        try:
            yield fault
        finally:
            self.end(fault)

    def expire_tokens(self) -> int:
        """No token that was used until now is accepted any more; how many they are."""
        self._expired |= self._tokens
        return len(self._expired)

    # What was seen

    def seen(self, matching: str = "", since: float = 0.0) -> list[Request]:
        """The requests that match, since a ``time.monotonic()``."""
        return [one for one in list(self._requests) if one.at >= since and re.search(matching, str(one))]

    def counts(self, since: float = 0.0) -> Counter[str]:
        """How many of each kind there were; ids are left out."""
        return Counter(
            re.sub(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", "ID", str(one))
            for one in self.seen(since=since)
        )

    # In the proxy's own thread

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10.0)

    async def _begin(self, fault: Fault) -> None:
        fault.since = time.monotonic()
        self._faults.append(fault)
        if fault.kind == "cut" and not fault.request:
            for transport in list(self._open):
                transport.abort()

    async def _end(self, faults: list[Fault]) -> None:
        for fault in faults:
            fault.over.set()
        self._faults = [fault for fault in self._faults if fault.left_s > 0]

    async def _serve(self) -> None:
        server = web.Server(self._handle)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        # A connection of its own for each request: one that the cloud has closed meanwhile is no fault.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=_LIMIT_S)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, trust_env=False
        ) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self._url = f"http://{host}:{port}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            self._open = {one for one in self._open if not one.is_closing()} | {transport}
        body = await request.read()
        service, _, rest = request.path_qs.lstrip("/").partition("/")
        path = f"/{rest}"
        seen = Request(time.monotonic(), request.method, service, path.partition("?")[0])
        self._requests.append(seen)
        token = request.headers.get("X-Auth-Token", "")
        fault = self._fault_of(seen)
        if fault is not None:
            fault.met += 1
            if fault.kind == "answer":
                headers = {"Content-Type": "application/json", **fault.headers}
                return web.Response(status=fault.status, text=fault.body, headers=headers)
            if fault.kind == "hang":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(fault.lasts_s) else fault.left_s):
                        await fault.over.wait()
            elif fault.kind == "cut after":
                await self._passed_on(request.method, service, path, request.headers, body)
            return self._cut(request)
        if token in self._expired:
            text = '{"error": {"code": 401, "message": "The request you have made requires authentication."}}'
            return web.Response(status=401, text=text, headers={"Content-Type": "application/json"})
        if token:
            self._tokens.add(token)
        try:
            return await self._passed_on(request.method, service, path, request.headers, body)
        except (aiohttp.ClientError, TimeoutError, KeyError):
            return self._cut(request)

    def _fault_of(self, seen: Request) -> Fault | None:
        begun = (f for f in self._faults if f.left_s > 0 and (f.after is None or f.after.met))
        return next((f for f in begun if f.met < f.times and re.search(f.request, str(seen))), None)

    def _cut(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _passed_on(
        self, method: str, service: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> web.StreamResponse:
        kept = {k: v for k, v in headers.items() if k.lower() not in _NOT_PASSED_ON}
        url = self._origins[service] + path
        async with self._session.request(
            method,
            url,
            data=body or None,
            headers=kept | {"Accept-Encoding": "identity"},
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            if (
                service == IDENTITY
                and method == "POST"
                and path == f"{self._auth_path}/auth/tokens"
                and answer.ok
            ):
                self._learn(json.loads(content))
            back = {
                k: self._rewritten(v) for k, v in answer.headers.items() if k.lower() not in _NOT_PASSED_BACK
            }
            if "json" in answer.headers.get("Content-Type", ""):
                content = self._rewritten(content.decode()).encode()
            return web.Response(status=answer.status, body=content, headers=back)

    def _learn(self, token: Any) -> None:
        """Where the services are."""
        for service in token["token"].get("catalog", ()):
            for endpoint in service["endpoints"]:
                parts = urlsplit(endpoint["url"])
                if endpoint["interface"] == "public" and service["type"] != IDENTITY:
                    self._origins[service["type"]] = f"{parts.scheme}://{parts.netloc}"

    def _rewritten(self, text: str) -> str:
        for service, origin in self._origins.items():
            text = re.sub(re.escape(origin) + r"(?![\d])", f"{self._url}/{service}", text)
        return text
