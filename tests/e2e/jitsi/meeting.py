"""Participants of one test's meetings, and what is awaited of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.harness.browser_participant import NEAR, BrowserParticipant
from tests.harness.jitsi.backend import Backend
from tests.harness.media_tools import colour_distance
from tests.harness.running import RunningStack, run
from tests.harness.terminal import SMALL, Terminal

RED = "c03020"
"""What a browser shows that was not told anything else."""
DRAWN = "1c2433"
"""Background of the picture that a terminal gets while nobody sends one."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where participants come from."""

    jitsi: Backend
    stack: RunningStack
    workdir: Path
    colour: str = "1e90ff"
    """What the terminal shows."""
    _numbers: count[int] = field(default_factory=count)

    def browser(
        self,
        name: str,
        room: str,
        *,
        colour: str = RED,
        tone_hz: int = 800,
        query: str = "",
        speaks: bool = False,
        seconds: int = 300,
    ) -> BrowserParticipant:
        """A browser with Jitsi's client library; the first one in a room may kick and mute."""
        number = next(self._numbers)
        workdir = self.workdir / f"{name}-{number}"
        prefix = self.stack.client_prefix(f"browser-{name}", self.stack.client_address(1 + number), workdir)
        page = self.jitsi.page(room, query)
        return BrowserParticipant(
            prefix, page, name, workdir, colour=colour, tone_hz=tone_hz, seconds=seconds, speaks=speaks
        )

    def terminal(self, room: str, *options: str, seconds: int = 240) -> Terminal:
        """A SIP terminal by the name of "Room 101" that shows blue and sounds at 500 Hz."""
        words = ["--name", "Room 101", "--colour", self.colour, "--tone", "500", *SMALL, *options]
        return Terminal(self.stack, room, *words, seconds=seconds)

    def gateway_log(self, line: str) -> int:
        """How often the gateways have logged ``line``."""
        logs = [run("docker", "logs", one["id"]) for one in self.stack.replicas("gateway")]
        return sum(log.count(line) for log in logs)


def wait_both_ways(browser: BrowserParticipant, terminal: Terminal, meeting: Meeting, *, colour: str) -> None:
    """Until both see and hear each other now: pictures that move, and the tones."""
    terminal.wait_sees(colour, 40)
    wait_sees_moving(browser, "Room 101", meeting.colour)
    terminal.wait_hears(800)
    browser.wait_hears("Room 101", 500)


def wait_sees_moving(browser: BrowserParticipant, other: str, colour: str, timeout: float = 40) -> None:
    """Until the picture of ``other`` has this colour and is not a frozen one."""

    def frames(report: dict[str, Any]) -> int:
        seen = browser.of(report, other)
        return seen["video"]["frames"] if seen and seen["video"] else 0

    def moving(report: dict[str, Any]) -> bool:
        before = browser.seen[-2] if len(browser.seen) > 1 else {"participants": []}
        seen = browser.of(report, other)
        if seen is None or not seen["video"] or frames(report) < frames(before) + 3:
            return False
        shown = (bytes(seen["video"]["grid"][3]).hex(), bytes(seen["video"]["colour"]).hex())
        return min(colour_distance(one, colour) for one in shown) <= NEAR

    browser.wait(moving, timeout, f"{browser.name} sees {other} move in #{colour}")


def talks_directly(report: dict[str, Any]) -> bool:
    """Whether the browser has a connection to the other one, without the bridge."""
    return any(
        one["name"] == "direct" and one["ice"] in ("connected", "completed") for one in report["connections"]
    )


def sent_codec(browser: BrowserParticipant) -> str:
    """The codec of the picture that the browser sends to the bridge."""

    def sending(report: dict[str, Any]) -> bool:
        return any(_pictures(report))

    report = browser.wait(sending, 45, f"{browser.name} sends a picture")
    return str(_pictures(report)[0]["codec"]).removeprefix("video/").upper()


def _pictures(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        stream
        for connection in report["connections"]
        for stream in connection["streams"]
        if (stream["direction"], stream["kind"]) == ("out", "video") and stream["frames"] > 0
    ]
