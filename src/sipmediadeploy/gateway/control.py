"""The gateway's local control API: HTTP on a Unix socket, for the agent on the same replica.

``GET /status`` · ``GET /calls`` · ``GET /metrics`` · ``POST /drain`` · ``POST /undrain`` · ``POST /retire``
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from sipmediadeploy.protocol.http_server import start


class Controlled(Protocol):
    """What the control API shows and changes."""

    def status(self) -> dict[str, Any]: ...

    def calls(self) -> list[dict[str, Any]]: ...

    def metrics_text(self) -> bytes: ...

    def drain(self) -> None: ...

    def undrain(self) -> bool:
        """False: it is retired, for good."""
        ...

    def retire(self) -> None:
        """Raises OSError when that can't be kept on disk."""
        ...


async def serve_control(gateway: Controlled, path: Path) -> web.AppRunner:
    """Listen on the Unix socket ``path`` (mode 0600); ``cleanup()`` of what is returned ends it.

    Raises:
        OSError: the socket can't be made.
    """

    async def status(_request: web.Request) -> web.Response:
        return web.json_response(gateway.status())

    async def calls(_request: web.Request) -> web.Response:
        return web.json_response(gateway.calls())

    async def metrics(_request: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=gateway.metrics_text(), headers={"Content-Type": kind})

    async def drain(_request: web.Request) -> web.Response:
        gateway.drain()
        return web.json_response(gateway.status())

    async def undrain(_request: web.Request) -> web.Response:
        ok = gateway.undrain()
        return web.json_response(gateway.status(), status=200 if ok else 409)

    async def retire(_request: web.Request) -> web.Response:
        try:
            gateway.retire()
        except OSError as error:
            return web.json_response({"error": f"can't keep it on disk: {error}"}, status=500)
        return web.json_response(gateway.status())

    app = web.Application()
    app.router.add_get("/status", status)
    app.router.add_get("/calls", calls)
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/drain", drain)
    app.router.add_post("/undrain", undrain)
    app.router.add_post("/retire", retire)
    runner = await start(app)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o177)  # the socket must not be open to others even for a moment
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    return runner
