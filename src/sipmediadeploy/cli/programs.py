"""Other programs that a command runs. Ctrl-C ends them in order: what they have begun, they clean up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from sipmediadeploy.cli.errors import CommandError

_LOG_LINES = 15


async def run(
    words: Sequence[str | Path],
    directory: Path,
    environment: Mapping[str, str] | None,
    log: Path,
    *,
    good: Sequence[int] = (0,),
    each_line: Callable[[str], None] = lambda _line: None,
) -> int:
    """Run a program in ``directory`` until it ends; its exit code, which has to be a ``good`` one.

    Its output goes to the file ``log``, which is written anew, and to ``each_line``. ``environment`` is what
    differs from this command's own. When this is cancelled, the program gets a SIGINT and is waited for.

    Raises:
        CommandError: it can't be run, or ended otherwise; the message has the last lines of ``log``.
    """
    with _opened(log) as file:
        process = await _started(words, directory, environment, asyncio.subprocess.STDOUT)
        following = asyncio.create_task(_follow(process, file, each_line))
        try:
            await asyncio.shield(following)
        except asyncio.CancelledError:
            print(f"smd: waiting until {Path(words[0]).name} has ended in order", file=sys.stderr, flush=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            await following
            raise
    code = await process.wait()
    if code not in good:
        raise CommandError(
            f"{_spoken(words)} ended with exit code {code}; the last lines of {log}:\n{last_lines(log)}"
        )
    return code


async def _follow(
    process: asyncio.subprocess.Process, file: BinaryIO, each_line: Callable[[str], None]
) -> None:
    """Copy what a program prints until it ends. Lines may be of any length."""
    assert process.stdout is not None
    rest = b""
    while piece := await process.stdout.read(65_536):
        file.write(piece)
        file.flush()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            each_line(line.decode(errors="replace"))
    await process.wait()


async def read(
    words: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a program that ends by itself soon; its exit code, what it printed, and its errors.

    Raises:
        CommandError: it can't be run.
    """
    process = await _started(words, directory, environment, asyncio.subprocess.PIPE)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def last_lines(log: Path) -> str:
    """The end of a log, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join(f"  {line}" for line in lines)


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("wb")
    except OSError as e:
        raise CommandError(f"{log}: can't be written: {e.strerror}") from None


async def _started(
    words: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None, errors: int
) -> asyncio.subprocess.Process:
    # In a process group of its own: a Ctrl-C at the terminal would come twice, and twice means at once.
    try:
        return await asyncio.create_subprocess_exec(
            *map(str, words),
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            process_group=0,
        )
    except OSError as e:
        raise CommandError(f"{words[0]} can't be run: {e.strerror}") from None


def _spoken(words: Sequence[str | Path]) -> str:
    """A program and what it is to do, without its options."""
    return " ".join(
        [Path(words[0]).name, *(str(word) for word in words[1:2] if not str(word).startswith("-"))]
    )
