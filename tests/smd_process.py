"""``smd`` as a process of its own, forked from one that has its modules: importing them takes a second."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_PRELOADED = ["tests.smd_process", "sipmediadeploy.cli.status", "sipmediadeploy.images.build"]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_PRELOADED)
_TIMEOUT_S = 60.0


def run_smd(
    directory: Path, words: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run ``smd words`` in ``directory`` with just this environment."""
    with tempfile.TemporaryDirectory(prefix="smd-process-") as place:
        output, errors = Path(place) / "output", Path(place) / "errors"
        order = (str(directory), list(words), dict(environment), str(output), str(errors))
        process = _CONTEXT.Process(target=_child, args=order)
        process.start()
        process.join(_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(
                ["smd", *words], _TIMEOUT_S, output.read_text(), errors.read_text()
            )
        return subprocess.CompletedProcess(
            ["smd", *words], process.exitcode, output.read_text(), errors.read_text()
        )


def _child(directory: str, words: list[str], environment: dict[str, str], output: str, errors: str) -> None:
    for path, descriptor in ((output, 1), (errors, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["smd", *words]
    from sipmediadeploy.cli.main import main

    main()
