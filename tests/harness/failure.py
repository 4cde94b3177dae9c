"""What a failed test shows of its stack: the end of each replica's log, without secrets."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

_SECRET = re.compile(r"\b[0-9a-fA-F]{32,}\b|[A-Za-z0-9+/_-]{22,}={1,2}|(?<=Bearer )\S+")
"""Keys and tokens (hex), TURN passwords (base64). Logs have none by promise; here they may have."""


@runtime_checkable
class Logged(Protocol):
    """A stack whose replicas have logs."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def last_lines(self) -> dict[str, str]:
        """What each replica's log ends with, by its name. It ends within a minute."""
        ...


def text(stack: Logged) -> str:
    """The end of each replica's log. It does not fail: the test's own failure is what counts."""
    try:
        logs = stack.last_lines()
    except (AssertionError, OSError, subprocess.SubprocessError, ValueError, RuntimeError) as e:
        return f"stack {stack.name}: its logs can't be read: {e}"
    shown = [f"--- {name}\n{masked(log).rstrip()}" for name, log in logs.items()]
    return "\n".join(shown) or f"stack {stack.name}: there is no replica"


def masked(log: str) -> str:
    """The log, with *** where there may be a secret."""
    return _SECRET.sub("***", log)


def sections(values: Iterable[Any]) -> list[tuple[str, str]]:
    """Title and text for each stack among a test's fixtures."""
    stacks = {value.name: value for value in values if isinstance(value, Logged)}
    return [(f"last log lines of stack {name}", text(stack)) for name, stack in stacks.items()]
