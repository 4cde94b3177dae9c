"""What all HTTP servers of the product have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from sipmediadeploy.protocol.http_server import MAX_HEADERS, MAX_LINE, has_token, serving
from tests.harness.ports import ADDRESS, free_port

GOOD = b"Authorization: Bearer t\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where a server answers 200 to who has the token ``t``, 401 to others, and fails at ``/fault``."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=200 if has_token(request, "t") else 401)

    async def fail(_request: web.Request) -> web.Response:
        raise RuntimeError("a fault of ours")

    app = web.Application()
    app.router.add_get("/", answer)
    app.router.add_get("/fault", fail)
    port = free_port()
    async with serving(app, ADDRESS, port):
        yield port


async def status(port: int, headers: bytes, path: bytes = b"/") -> int:
    reader, writer = await asyncio.open_connection(ADDRESS, port)
    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    async with asyncio.timeout(30):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (GOOD, 200),
        (b"", 401),
        (b"Authorization: t\r\n", 401),
        (b"Authorization: Bearer \r\n", 401),
        (b"Authorization: Bearer \xff\xfe\r\n", 401),
        (GOOD + b"X: " + b"x" * (MAX_LINE + 1) + b"\r\n", 400),
        (GOOD + b"".join(b"X%d: x\r\n" % number for number in range(MAX_HEADERS + 1)), 400),
        (GOOD + b"no header\r\n", 400),
    ],
)
async def test_only_the_token_opens_and_headers_have_limits(port: int, headers: bytes, expected: int) -> None:
    assert await status(port, headers) == expected


async def test_the_log_has_faults_of_ours_and_nothing_of_what_strangers_sent(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert await status(port, b"a stranger's words\r\n") == 400
        assert await status(port, b"", b"/\xff\x00words") in (400, 404)
        assert "words" not in caplog.text
        assert await status(port, GOOD, b"/fault") == 500
    assert "a fault of ours" in caplog.text
