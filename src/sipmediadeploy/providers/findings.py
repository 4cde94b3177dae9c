"""What a look at something before a deployment has found: a level, words, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.stack import Limits, Role

T = TypeVar("T")


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    """It works as it is, and somebody should know."""
    PROBLEM = "problem"
    """It is in the way of the stack."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    todo: str = ""
    """What to do about it; empty where nothing is to be done."""
    by_deploy: bool = False
    """``smd deploy`` does that itself."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a pool may have at a time."""

    role: Role
    replicas: int
    """At most, and one that is being replaced."""
    limits: Limits
    """Of each."""


Read: TypeAlias = T | ProviderError
"""What was read, or why it could not be."""


def ok(what: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, what, found)


def warning(what: str, found: str, todo: str = "", *, by_deploy: bool = False) -> Finding:
    """See :attr:`Level.WARNING`."""
    return Finding(Level.WARNING, what, found, todo, by_deploy)


def problem(what: str, found: str, todo: str = "", *, by_deploy: bool = False) -> Finding:
    """See :attr:`Level.PROBLEM`."""
    return Finding(Level.PROBLEM, what, found, todo, by_deploy)


def unknown(what: str, found: str, todo: str = "") -> Finding:
    """See :attr:`Level.UNKNOWN`."""
    return Finding(Level.UNKNOWN, what, found, todo)


def failed(level: Level, what: str, error: ProviderError, todo: str = "") -> Finding:
    """A finding in the words of an error, with its hint where ``todo`` does not say what to do."""
    return Finding(level, what, error.said, todo or error.hint or ("try again" if error.again else ""))


def listed(words: list[str]) -> str:
    """A few words as a list in a sentence."""
    return ", ".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"
