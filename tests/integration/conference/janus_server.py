"""A real Janus with the configuration that the demo conference's role renders."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sipmediadeploy.gateway.conference.janus_api import JanusConnection, JanusLost
from sipmediadeploy.node.roles.base import RenderedFile
from sipmediadeploy.node.roles.conference_demo.role import Places, render
from sipmediadeploy.protocol.replica import ConferenceDemoService, ReplicaDocument
from tests.harness.ports import free_port

needs_janus = pytest.mark.skipif(shutil.which("janus") is None, reason="janus is not installed")
LOOPBACK = IPv4Address("127.0.0.1")


def demo_document(service: ConferenceDemoService) -> ReplicaDocument:
    """The document of a demo conference on loopback."""
    return ReplicaDocument(
        stack="test",
        name="test-conference-demo-0",
        slot=0,
        address=LOOPBACK,
        agent_token="none",
        service=service,
    )


def places_below(directory: Path) -> Places:
    """Everything below ``directory``."""
    return Places(
        janus=directory / "janus",
        nginx=directory / "nginx",
        tls=directory / "tls",
        web=directory / "web",
        worker="root",
        listen=str(LOOPBACK),
        redirect_port=free_port(),
    )


def write(files: dict[Path, RenderedFile]) -> None:
    """Write rendered files."""
    for path, file in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)


def spawn(argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that writes to the end of ``log``."""
    with log.open("ab") as file:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def said(log: Path) -> str:
    """All that a program wrote to ``log``."""
    return log.read_text(errors="replace")


class JanusServer:
    """A Janus that can be started and killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.places = places_below(directory)
        self._process: subprocess.Popen[bytes] | None = None
        service = ConferenceDemoService(janus_port=self.port, rtp_ports=(46_000, 46_399))
        write(render(demo_document(service), service, self.places))

    @property
    def url(self) -> str:
        """The WebSocket's address."""
        return f"ws://{LOOPBACK}:{self.port}/"

    @property
    def log(self) -> str:
        """All that Janus said."""
        return said(self.directory / "janus.log")

    async def start(self) -> None:
        """Start and wait until it answers."""
        argv = ["janus", "-F", str(self.places.janus)]
        self._process = spawn(argv, self.directory / "janus.log")
        async with asyncio.timeout(20):
            while True:
                assert self._process.poll() is None, self.log
                with contextlib.suppress(JanusLost):
                    connection = await JanusConnection.open(self.url, lambda _: None)
                    await connection.close()
                    return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


@contextlib.asynccontextmanager
async def running_janus(directory: Path) -> AsyncIterator[JanusServer]:
    """A started Janus."""
    server = JanusServer(directory)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
