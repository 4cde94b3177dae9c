"""The web site of the test's Jitsi: what a deployment's nginx serves, by HTTPS with a test authority."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import aiohttp
from aiohttp import WSMsgType, web

_START_S = 10


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM form."""

    ca: Path
    certificate: Path
    key: Path


def make_certificate(directory: Path, address: str) -> Certificate:
    """A test authority and a certificate for ``address`` signed by it, valid for two days."""
    directory.mkdir(parents=True, exist_ok=True)
    ca, key = directory / "ca.pem", directory / "ca.key"
    made = Certificate(ca, directory / "server.pem", directory / "server.key")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    new += ["-days", "2"]
    authority = ["-subj", "/CN=Authority for tests", "-addext", "keyUsage=critical,keyCertSign"]
    server = ["-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}", "-CA", str(ca)]
    server += ["-CAkey", str(key), "-addext", "basicConstraints=critical,CA:FALSE"]
    for words in (
        [*new, *authority, "-keyout", str(key), "-out", str(ca)],
        [*new, *server, "-keyout", str(made.key), "-out", str(made.certificate)],
    ):
        subprocess.run(words, check=True, capture_output=True)
    return made


class Site:
    """The web server, in a thread; a context manager."""

    def __init__(
        self,
        address: str,
        port: int,
        certificate: Certificate,
        files: Mapping[str, Path],
        upstreams: Mapping[str, str],
    ) -> None:
        """Both are by path. ``files``: "/" is any room. ``upstreams``: with all below, if it ends in /."""
        self._place = address, port
        self._files = dict(files)
        self._upstreams = dict(upstreams)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate.certificate, certificate.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="site", daemon=True)

    def __enter__(self) -> Site:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        self._client = aiohttp.ClientSession(auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._place, ssl_context=self._tls).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        upstream = self._upstream(request)
        try:
            if upstream is None:
                return web.FileResponse(self._files.get(request.path, self._files["/"]))
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._relay(request, upstream)
            return await self._forward(request, upstream)
        except (aiohttp.ClientError, OSError) as e:
            return web.Response(status=502, text=f"{upstream}: {e}")

    def _upstream(self, request: web.Request) -> str | None:
        for path, upstream in self._upstreams.items():
            if request.path == path or (path.endswith("/") and request.path.startswith(path)):
                return f"{upstream}{request.raw_path}"
        return None

    async def _forward(self, request: web.Request, upstream: str) -> web.Response:
        headers = {name: request.headers[name] for name in ("Content-Type",) if name in request.headers}
        body = await request.read()
        async with self._client.request(request.method, upstream, data=body, headers=headers) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    async def _relay(self, request: web.Request, upstream: str) -> web.WebSocketResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [one.strip() for one in offered.split(",") if one.strip()]
        limit = 4 * 1024 * 1024
        async with self._client.ws_connect(upstream, protocols=protocols, max_msg_size=limit) as behind:
            before = web.WebSocketResponse(protocols=protocols, max_msg_size=limit)
            await before.prepare(request)
            await asyncio.wait(
                [asyncio.create_task(_pump(before, behind)), asyncio.create_task(_pump(behind, before))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            with contextlib.suppress(ConnectionError):
                await before.close()
            return before


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: Socket, sink: Socket) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        async for message in source:
            if message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
