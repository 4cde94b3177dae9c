"""The rendered configuration is what Janus and nginx take."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest
import yaml

from sipmediadeploy.gateway.conference.janus_api import JanusConnection
from sipmediadeploy.node.roles.conference_demo.role import ConferenceDemoRole, Places, render
from sipmediadeploy.protocol.replica import ConferenceDemoService
from tests.harness.ports import free_port
from tests.integration.conference.janus_server import (
    JanusServer,
    demo_document,
    needs_janus,
    places_below,
    running_janus,
    said,
    spawn,
    write,
)

pytestmark = pytest.mark.integration
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
ROLE = Path("deploy/ansible/roles/conference_demo")


@needs_janus
async def test_janus_starts_with_the_video_room_only_and_takes_named_rooms(tmp_path: Path) -> None:
    async with running_janus(tmp_path) as server:
        connection = await JanusConnection.open(server.url, lambda _: None)
        handle = await connection.attach("janus.plugin.videoroom")
        reply = await connection.request(handle, {"request": "create", "room": "büro"})
        await connection.close()
        assert reply.data["room"] == "büro"
        skipped = set(re.findall(r"'(libjanus_\w+)\.so' has been disabled", server.log))
        assert installed("plugins") - skipped == {"libjanus_videoroom"}
        assert installed("transports") - skipped == {"libjanus_websockets"}


@needs_janus
@needs_nginx
@pytest.mark.parametrize("https", [False, True])
async def test_the_page_and_janus_answer_through_one_port(tmp_path: Path, https: bool) -> None:
    async with (
        running_janus(tmp_path) as server,
        served_page(server, https) as (url, tls),
        aiohttp.ClientSession() as client,
    ):
        response = await client.get(f"{url}/some-room?name=Ann", ssl=tls)
        assert "the page" in await response.text()
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        assert (await client.get(f"{url}/assets/none.js", ssl=tls)).status == 404


@needs_janus
@needs_nginx
async def test_the_health_check_notices_that_janus_is_gone(tmp_path: Path) -> None:
    async with running_janus(tmp_path) as server, served_page(server, False) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        service = ConferenceDemoService(https=False, janus_port=server.port, page_port=port)
        role = ConferenceDemoRole(demo_document(service), service)
        assert (await role.check()).ok
        await server.kill()
        health = await role.check()
        assert not health.ok
        assert "conference" in health.reason


def installed(kind: str) -> set[str]:
    """The libraries that Janus finds at its start."""
    return {path.name.removesuffix(".so") for path in Path("/usr/lib").glob(f"*/janus/{kind}/*.so")}


@contextlib.asynccontextmanager
async def served_page(server: JanusServer, https: bool) -> AsyncIterator[tuple[str, ssl.SSLContext | bool]]:
    """A page of one line behind the rendered nginx; gives its URL and what its clients trust."""
    directory = server.directory
    places = places_below(directory)
    service = ConferenceDemoService(
        publish=IPv4Address("198.18.7.7") if https else None,
        https=https,
        page_port=free_port(),
        janus_port=server.port,
    )
    write(render(demo_document(service), service, places))
    places.web.mkdir()
    (places.web / "index.html").write_text("<title>the page</title>")
    nginx = spawn(["sh", "-c", run_script(places)], directory / "nginx.log")
    url = f"{'https' if https else 'http'}://127.0.0.1:{service.page_port}"
    try:
        await answering(url, nginx, directory / "nginx.log")
        yield url, trust(places, https)
    finally:
        nginx.terminate()
        await asyncio.to_thread(nginx.wait)


def run_script(places: Places) -> str:
    """What the role prepares and runs as its service nginx, with this test's directories."""
    services = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["conference_demo_services"]
    nginx = next(service for service in services if service["name"] == "nginx")
    prepare = (ROLE / "files" / Path(nginx["prepare"]).name).read_text()
    script = f"({prepare})\nexec {nginx['command']}\n"
    return script.replace("/var/lib/smd/tls", str(places.tls)).replace("/run/smd/nginx", str(places.nginx))


def trust(places: Places, https: bool) -> ssl.SSLContext | bool:
    """Trusts the page's own certificate; not its name, which is the published address."""
    if not https:
        return True
    context = ssl.create_default_context(cafile=str(places.tls / "page.pem"))
    context.check_hostname = False
    return context


async def answering(url: str, nginx: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the page's server answers."""
    async with asyncio.timeout(10), aiohttp.ClientSession() as client:
        while True:
            assert nginx.poll() is None, said(log)
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await client.get(f"{url}/health", ssl=False)
                return
            await asyncio.sleep(0.05)
