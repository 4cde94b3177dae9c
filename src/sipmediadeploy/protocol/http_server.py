"""What all HTTP servers of the product have in common: limits, bearer tokens, JSON, and what is logged.

They are the agent's API (``node/api.py``), the scaler's (``scaler/api.py``) and the control socket of a
gateway (``gateway/control.py``).
"""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel

SHUTDOWN_S = 0.5
"""Requests that still run when a server ends may take so long."""
MAX_LINE = 4_096
"""Bytes of a request line, and of a header."""
MAX_HEADERS = 32


@contextlib.asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    """Run ``app`` meanwhile. Where it listens is up to the caller."""
    runner = await start(app)
    try:
        yield runner
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serving(app: web.Application, address: str, port: int) -> AsyncIterator[None]:
    """Serve ``app`` by HTTP on ``address`` meanwhile.

    Raises:
        OSError: it can't be bound.
    """
    async with running(app) as runner:
        await web.TCPSite(runner, address, port).start()
        yield


async def start(app: web.Application) -> web.AppRunner:
    """Run ``app`` until ``cleanup()`` of what is returned."""
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        max_headers=MAX_HEADERS,
        auto_decompress=False,
        logger=_errors(),
    )
    await runner.setup()
    return runner


def has_token(request: web.Request, token: str) -> bool:
    """Whether ``request`` has this bearer token (RFC 6750). The time that this takes tells nothing of it."""
    given = request.headers.get("Authorization", "").encode("utf-8", "replace")
    return hmac.compare_digest(given, f"Bearer {token}".encode())


def json_answer(message: BaseModel) -> web.Response:
    """The answer 200 with ``message`` as JSON."""
    return web.Response(text=message.model_dump_json(), content_type="application/json")


def _errors() -> logging.Logger:
    """Takes errors of this program, and not what aiohttp makes of strangers' bytes: that quotes them."""
    logger = logging.getLogger(__name__)
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
