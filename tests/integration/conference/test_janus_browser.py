"""A call and a browser on the demo page see and hear each other through a real Janus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.node.roles.conference_demo.role import render
from sipmediadeploy.protocol.replica import ConferenceDemoService
from tests.harness.ports import free_port
from tests.harness.waiting import until, until_async
from tests.integration.conference.guests import guest
from tests.integration.conference.janus_server import (
    JanusServer,
    demo_document,
    needs_janus,
    places_below,
    running_janus,
    spawn,
    write,
)
from tests.integration.conference.test_conference_demo_role import answering, needs_nginx, run_script
from tests.integration.media_terminal import RED

BROWSER = Path(os.environ.get("SMD_TEST_BROWSER", "tests/e2e/browser"))
LOW, HIGH = 440.0, 1000.0

pytestmark = [
    pytest.mark.integration,
    needs_janus,
    needs_nginx,
    pytest.mark.skipif(
        not (shutil.which("chromium") and (BROWSER / "node_modules").is_dir()),
        reason="needs chromium and: npm ci --prefix tests/e2e/browser",
    ),
]


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built page; built here unless there is one already, as in the image of the test tools."""
    if built := os.environ.get("SMD_TEST_PAGE"):
        return Path(built)
    out = tmp_path_factory.mktemp("page")
    subprocess.run(["web/build.sh", str(out)], check=True, capture_output=True, timeout=240)
    return out


async def test_a_call_and_a_browser_see_and_hear_each_other(tmp_path: Path, page: Path) -> None:
    async with (
        running_janus(tmp_path) as server,
        served(server, page) as url,
        guest(server.url, "Ann at SIP", LOW, RED) as ann,
        browser(url, tmp_path) as seen,
    ):
        await until("the browser has Ann's picture", lambda: is_red(latest(seen, "Ann at SIP")), 40)
        await until("the browser hears Ann", lambda: hears(latest(seen, "Ann at SIP"), LOW), 20)
        await until("Ann sees the browser's green", lambda: ann.terminal.colour()[1] > 100)
        await until_async("Ann hears the browser", lambda: ann.terminal.hears(HIGH))
        sent = [s for c in seen[-1]["connections"] if c["name"] is None for s in c["streams"]]
        assert {s["codec"] for s in sent} == {"audio/opus", "video/H264"}
        assert not [line for line in seen if line["event"] in ("console", "pageerror")]
        assert not ann.ended


@contextlib.asynccontextmanager
async def served(server: JanusServer, page: Path) -> AsyncIterator[str]:
    """The demo page behind the rendered nginx."""
    places = places_below(server.directory)
    service = ConferenceDemoService(https=False, page_port=free_port(), janus_port=server.port)
    write(render(demo_document(service), service, places))
    shutil.copytree(page, places.web)
    log = server.directory / "nginx.log"
    nginx = spawn(["sh", "-c", run_script(places)], log)
    try:
        url = f"http://127.0.0.1:{service.page_port}"
        await answering(url, nginx, log)
        yield f"{url}/demo"
    finally:
        nginx.terminate()
        await asyncio.to_thread(nginx.wait)


@contextlib.asynccontextmanager
async def browser(url: str, directory: Path) -> AsyncIterator[list[dict[str, Any]]]:
    """A browser in the room, which sends a tone of 1000 Hz and Chromium's green test picture."""
    lines: list[dict[str, Any]] = []
    process = await asyncio.create_subprocess_exec(
        *("node", str(BROWSER / "browser.mjs"), "--url", url, "--name", "Web", "--seconds", "90", "--json"),
        *("--tone", f"{HIGH:.0f}", "--screenshot", str(directory / "page.png")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        limit=1 << 20,
    )

    async def read() -> None:
        assert process.stdout is not None
        async for text in process.stdout:
            lines.append(json.loads(text))

    reader = asyncio.create_task(read())
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reader


def latest(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """What the browser last said of a participant."""
    for line in reversed(lines):
        for participant in line.get("participants", ()):
            if participant["name"] == name:
                return dict(participant)
    return {}


def is_red(participant: dict[str, Any]) -> bool:
    """The picture is the terminal's red."""
    video: dict[str, Any] = participant.get("video") or {}
    return bool(video) and all(abs(a - b) < 40 for a, b in zip(video["colour"], RED, strict=True))


def hears(participant: dict[str, Any], hz: float) -> bool:
    """The tone is among the strongest."""
    audio: dict[str, Any] = participant.get("audio") or {}
    return bool(audio) and any(abs(p["hz"] - hz) < 15 and p["db"] > -60 for p in audio["peaks"])
