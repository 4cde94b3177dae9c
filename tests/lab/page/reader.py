"""Reads docs/first-deployment.md as somebody does who types what is in its boxes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LIMIT_S = 1500.0


@dataclass(frozen=True, slots=True)
class Box:
    """One box."""

    language: str
    """'yaml', or nothing: commands."""
    text: str


def boxes(page: str) -> dict[str, list[Box]]:
    """The boxes of each part, by its heading. Pure."""
    found: dict[str, list[Box]] = {}
    for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        fences = re.findall(r"^```(\w*)\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL)
        found[heading] = [Box(language, text) for language, text in fences]
    return found


def commands(box: Box, filled: Mapping[str, str]) -> list[str]:
    """The command lines of a box, with what is in capitals, or stands for something, filled in. Pure."""
    text = box.text.replace("\\\n", " ")
    for word, by in filled.items():
        text = text.replace(word, by)
    return [line for line in (re.sub(r"\s+# .*$", "", one).strip() for one in text.splitlines()) if line]


def type_in(directory: Path, command: str, good: Sequence[int] = (0,)) -> str:
    """Run a command line at a terminal, and say yes where it asks; what it printed.

    Raises:
        AssertionError: its exit code is none of ``good``.
    """
    master, terminal = pty.openpty()
    try:
        os.write(master, b"yes\n")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=directory,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(master)
    assert done.returncode in good, f"{command}: exit {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout
