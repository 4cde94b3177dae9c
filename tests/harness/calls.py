"""Calls by SIPp through a service address while something breaks, each from one port: dialogs that stand, are
renewed (re-INVITE) and ended (BYE) afterwards, and calls that are placed all the time.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tests.harness import sipp
from tests.harness.running import eventually

DIALOGS = 3
_SET_UPS = 3
_PLACED_PER_S = 0.5


class CallersHost(Protocol):
    """Where SIPp runs."""

    @property
    def name(self) -> str:
        """Of the stack: what runs is called after it."""
        ...

    def client_address(self, index: int) -> str:
        """An address for a caller."""
        ...

    def client_prefix(self, name: str, address: str, *mounts: Path) -> list[str]:
        """The words that run a command there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsLost:
    """What became of the calls."""

    established: int
    established_lost: int
    """Dialogs whose re-INVITE or BYE was not answered with 200."""
    setup: int
    setup_lost: int
    """Calls placed around the fault that did not come about, or could not be ended."""
    messages: str
    """Of lost calls, for the reader of a failed test."""

    def lost(self) -> str:
        """For people."""
        dialogs = f"{self.established_lost} of {self.established} dialogs"
        return f"lost {dialogs}, {self.setup_lost} of {self.setup} calls"


@dataclass(frozen=True, slots=True)
class Calls:
    """Those that stand and those that are placed, and their processes."""

    keeper: sipp.Caller
    placer: sipp.Caller
    processes: tuple[subprocess.Popen[str], subprocess.Popen[str]]

    def finish(self) -> CallsLost:
        """Wait for their end."""
        kept, placed = self.processes
        established, setup = sipp.finish(self.keeper, kept), sipp.finish(self.placer, placed)
        return CallsLost(
            established=self.keeper.calls,
            established_lost=established.failed,
            setup=self.placer.calls,
            setup_lost=setup.failed,
            messages="\n".join(one.messages for one in (established, setup) if one.failed),
        )


@contextlib.contextmanager
def calls_through(host: CallersHost, service: str, workdir: Path, watched_s: float) -> Iterator[Calls]:
    """Dialogs that stand, and calls that are placed all the time until the end."""
    address, other = host.client_address(0), host.client_address(1)
    keeper = sipp.Caller(
        workdir / "kept",
        f"{service}:5060",
        "kept",
        address,
        5070,
        calls=DIALOGS,
        per_s=10,
        before_reinvite_ms=round(1000 * watched_s) + 2500,
        after_reinvite_ms=200,
        prefix=host.client_prefix("kept", address, workdir),
    )
    placer = replace(
        keeper,
        workdir=workdir / "placed",
        user="placed",
        address=other,
        port=5071,
        calls=round(_PLACED_PER_S * (watched_s + 3)),
        per_s=_PLACED_PER_S,
        before_reinvite_ms=100,
        reinvite=False,
        prefix=host.client_prefix("placed", other, workdir),
    )
    kept = _standing(keeper, host)
    placed = None
    try:
        placed = sipp.start(placer)
        eventually(lambda: sipp.messages(placer).count("\nBYE ") >= 1, 45, "a call is placed")
        yield Calls(keeper, placer, (kept, placed))
    finally:
        _end(keeper, kept, host)
        if placed is not None:
            _end(placer, placed, host)


def _standing(keeper: sipp.Caller, host: CallersHost) -> subprocess.Popen[str]:
    """Dialogs that stand. On a machine that is too busy to set them up now they are set up anew."""
    for _ in range(_SET_UPS):
        process = sipp.start(keeper)
        try:
            eventually(lambda: sipp.messages(keeper).count("\nACK ") >= DIALOGS, 45, "the dialogs stand")
        except AssertionError:
            _end(keeper, process, host)
            raise
        if not re.search(r"\nSIP/2.0 [4-6]", sipp.messages(keeper)):
            return process
        _end(keeper, process, host)
    raise AssertionError(f"calls are refused before anything is broken:\n{sipp.messages(keeper)}")


def _end(caller: sipp.Caller, process: subprocess.Popen[str], host: CallersHost) -> None:
    if process.poll() is None:
        subprocess.run(["docker", "kill", f"{host.name}-{caller.user}"], check=False, capture_output=True)
        process.wait()
