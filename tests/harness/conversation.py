"""Two terminals that hear and see each other while something breaks: what becomes of calls with media."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.harness.running import RunningStack, eventually, run
from tests.harness.terminal import SMALL, Terminal

_ROOM = "conversation"
_TONES = 440, 660
_COLOURS = "ff8000", "8000ff"
_MEDIA_S = 40.0
_LONGEST_S = 300
_NOTICED_S = 4.0
"""A terminal tells of a silent second when it is over, and late on a busy machine."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Two calls in one room."""

    stack: RunningStack
    one: Terminal
    two: Terminal

    @property
    def told(self) -> tuple[int, int]:
        """How much either terminal has told until now."""
        return len(self.one.events), len(self.two.events)

    def wait_goes_on(self) -> None:
        """Wait until both hear and see each other."""
        for terminal, tone, colour in zip((self.one, self.two), _TONES[::-1], _COLOURS[::-1], strict=True):
            terminal.wait_hears(tone, _MEDIA_S)
            terminal.wait_sees(colour, _MEDIA_S)

    def silent_s(self, told: tuple[int, int], since: float, watched_s: float) -> float:
        """Wait until both hear each other and the time is over; how long one heard nothing, in seconds.

        ``told`` and ``since`` (monotonic) are of the moment before the fault.
        """
        end = since + max(watched_s, _NOTICED_S)

        def both_hear() -> bool:
            hear = self.one.hears(_TONES[1]) and self.two.hears(_TONES[0])
            return time.monotonic() >= end and hear

        eventually(both_hear, _MEDIA_S, "both ends of a call hear each other after the fault")
        return max(self.one.silent_s(told[0]), self.two.silent_s(told[1]))

    def renew(self) -> None:
        """Both send a re-INVITE, and are answered."""
        before = self.told
        for container in run("docker", "ps", "-q", "--filter", f"name=smd-{self.stack.name}-call-").split():
            run("docker", "kill", "--signal", "SIGUSR1", container)

        def answered() -> bool:
            return all(
                any(e["event"] == "reinvited" and e["status"] == 200 for e in terminal.events[count:])
                for terminal, count in zip((self.one, self.two), before, strict=True)
            )

        eventually(answered, 30, "re-INVITEs are answered after the fault")

    def hang_up(self) -> None:
        """Both hang up, and their BYE is answered."""
        for summary in (self.one.hang_up(), self.two.hang_up()):
            assert summary["ended_by"] == "here", summary
            assert summary["bye_status"] == 200, f"the BYE was not answered: {summary}"


@contextlib.contextmanager
def conversation(stack: RunningStack) -> Iterator[Conversation]:
    """Both hear and see each other when it begins."""
    one, two = (
        Terminal(
            stack,
            _ROOM,
            "--name",
            f"Tone{tone}",
            "--tone",
            str(tone),
            "--colour",
            colour,
            *SMALL,
            seconds=_LONGEST_S,
        )
        for tone, colour in zip(_TONES, _COLOURS, strict=True)
    )
    with one, two:
        talk = Conversation(stack, one, two)
        talk.wait_goes_on()
        yield talk
