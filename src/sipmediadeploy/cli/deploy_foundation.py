"""What a stack stands on, and its first scaler, for ``smd deploy``: by Terraform, or by ``smd`` itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipmediadeploy.cli import programs
from sipmediadeploy.cli.bootstrap import bootstrap
from sipmediadeploy.cli.config import as_json_text
from sipmediadeploy.cli.deploy_plan import (
    ApplyProgress,
    Changes,
    Ground,
    Way,
    choose_way,
    read_plan,
)
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.view import shorten
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.ensure import named
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.stack import Stack

EXAMPLE = Path("deploy/terraform/example")
"""Where Terraform works unless another directory is named, below the checkout."""
_EFFECTIVE = "effective-stack.json"
_NO_STATE = "No state file was found"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terraform:
    """How Terraform (or OpenTofu) is run for a stack."""

    program: str | None
    directory: Path
    logs: Path
    environment: dict[str, str]

    def prepare(self, report: Report) -> None:
        """See to it that the directory is initialized.

        Raises:
            CommandError: it can't be.
        """
        code, _, _ = asyncio.run(self._read("validate", "-no-color"))
        if code == 0:
            return
        report(f"{self.program} init in {shorten(self.directory)}")
        log = self.logs / "terraform-init.log"
        asyncio.run(self._run(["init", "-input=false", "-no-color"], log))

    def in_state(self) -> bool:
        """Whether the state has something.

        Raises:
            CommandError: it can't be read.
        """
        code, said, errors = asyncio.run(self._read("state", "list", "-no-color"))
        if code != 0 and _NO_STATE not in errors:
            raise CommandError(f"the state in {self.directory} can't be read: {errors.strip()}")
        return code == 0 and bool(said.strip())

    def plan(self, file: Path, log: Path) -> Changes:
        """Make a plan; its text is in ``log`` then.

        Raises:
            CommandError: Terraform can't.
        """
        words = ["plan", "-input=false", "-no-color", "-detailed-exitcode", f"-out={file}"]
        asyncio.run(self._run(words, log, good=(0, 2)))
        code, said, errors = asyncio.run(self._read("show", "-json", str(file)))
        if code != 0:
            raise CommandError(f"{self.program} can't read its own plan: {errors.strip()}")
        return read_plan(json.loads(said))

    def apply(self, file: Path, changes: Changes, report: Report) -> None:
        """Do what a plan says, and tell how far it is.

        Raises:
            CommandError: something could not be done.
        """
        progress = ApplyProgress(changes.number)
        words = ["apply", "-input=false", "-no-color", str(file)]

        def told(line: str) -> None:
            if said := progress.said(line):
                report(said)

        log = self.logs / "terraform-apply.log"
        report(f"Terraform applies it (log: {shorten(log)})")
        try:
            asyncio.run(self._run(words, log, each_line=told))
        except CommandError as e:
            raise CommandError(f"{e}\nCorrect that, and run smd deploy again: it goes on") from None

    async def _run(
        self,
        words: list[str],
        log: Path,
        good: tuple[int, ...] = (0,),
        each_line: Report = lambda _line: None,
    ) -> None:
        await programs.run(
            [str(self.program), *words], self.directory, self.environment, log, good=good, each_line=each_line
        )

    async def _read(self, *words: str) -> tuple[int, str, str]:
        return await programs.read([str(self.program), *words], self.directory, self.environment)


def find_terraform(
    place: Place, root: Path, given: Path | None, logs: Path, cloud_environment: dict[str, str]
) -> Terraform:
    """The program, and where it works: in the directory ``given``, or in the checkout's example.

    Raises:
        CommandError: there is no configuration in that directory.
    """
    directory = (given or root / EXAMPLE).absolute()
    if not list(directory.glob("*.tf")):
        raise CommandError(
            f"--terraform-dir {directory}: there is no Terraform configuration; copy {EXAMPLE} to it, as "
            "deploy/terraform/README.md says"
        )
    program = next((name for name in ("terraform", "tofu") if shutil.which(name)), None)
    told = told_variables(directory, place.stack_file, root / "smd")
    return Terraform(program, directory, logs, {**cloud_environment, **told, "TF_INPUT": "0"})


def told_variables(directory: Path, stack_file: Path, smd: Path) -> dict[str, str]:
    """What the example is told by its environment: nothing that its defaults say already. Pure.

    So an apply by hand and one of ``smd deploy`` mean the same; a ``terraform.tfvars`` wins over these.
    """
    # As the example's defaults have it; resolved, so that a checkout behind a link is the same one.
    usual = {"stack_file": directory / "../../../stack.yaml", "smd": directory / "../../../smd"}
    given = {"stack_file": stack_file, "smd": smd}
    return {
        f"TF_VAR_{name}": str(path) for name, path in given.items() if path.resolve() != usual[name].resolve()
    }


def ensure_foundation(
    place: Place,
    stack: Stack,
    cloud: Cloud,
    terraform: Terraform,
    asked: Way | None,
    yes: bool,
    report: Report,
) -> Way:
    """See to it that what the stack stands on is there, and a scaler of the present version; who made it.

    Raises:
        CommandError: see :func:`choose_way`; the user says no, or Terraform fails.
        ProviderError: the cloud refuses something.
    """
    may_be_terraform = terraform.program is not None and asked is not Way.SMD
    if may_be_terraform:
        terraform.prepare(report)
    ground = Ground(
        directory=terraform.directory,
        program=terraform.program,
        in_state=_in_state(terraform, stack, by_program=may_be_terraform),
        in_cloud=bool(named(cloud, "network", network_name(stack.name))),
    )
    way, why = choose_way(asked, ground, stack.name)
    if way is Way.SMD:
        report(f"networks, router and security groups by smd itself: {why}")
        bootstrap(place, foundation=True, report=report)
        return way
    report(f"networks, router and security groups by Terraform in {shorten(terraform.directory)}: {why}")
    if not _apply(stack, terraform, yes, report):
        bootstrap(place, foundation=False, report=report)
    return way


def _in_state(terraform: Terraform, stack: Stack, *, by_program: bool) -> bool:
    """Whether Terraform's state has what the stack stands on; without the program a local one is looked at.

    Raises:
        CommandError: it can't be read, or is another stack's.
    """
    there = terraform.in_state() if by_program else _has_local_state(terraform.directory)
    effective = _read_json(terraform.directory / _EFFECTIVE)
    other = str(effective.get("name", stack.name))
    if not there or other == stack.name:
        return there
    if not by_program:
        return False
    raise CommandError(
        f"{terraform.directory} is where Terraform keeps another stack, {other}. Copy it without its state "
        f"to a directory for {stack.name}, let source point to the module, and name it: --terraform-dir"
    )


def _has_local_state(directory: Path) -> bool:
    return bool(_read_json(directory / "terraform.tfstate").get("resources"))


def _read_json(path: Path) -> dict[str, Any]:
    """What is in a file; nothing if there is none, or something else in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _apply(stack: Stack, terraform: Terraform, yes: bool, report: Report) -> bool:
    """Plan, ask, and apply; whether the first scaler was made with it."""
    effective, text = terraform.directory / _EFFECTIVE, as_json_text(stack) + "\n"
    try:
        effective.write_text(text, encoding="utf-8")
    except OSError as e:
        raise CommandError(f"{effective}: can't be written: {e.strerror}") from None
    file, log = terraform.logs / "terraform.plan", terraform.logs / "terraform-plan.log"
    try:
        changes = terraform.plan(file, log)
        if not changes.number:
            report("Terraform: nothing is to be changed")
            return False
        if not yes:
            print(log.read_text(encoding="utf-8"), flush=True)
        report(f"Terraform: {changes}")
        _agree(stack, changes, log, yes)
        terraform.apply(file, changes, report)
    finally:
        file.unlink(missing_ok=True)
    return changes.bootstraps


def _agree(stack: Stack, changes: Changes, log: Path, yes: bool) -> None:
    """Ask, if that was not said beforehand.

    Raises:
        CommandError: nobody can be asked, or the user says no.
    """
    if changes.lost:
        print(f"This removes, replaces or renames what the stack {stack.name} stands on:")
        print("\n".join(f"  {address}" for address in changes.lost), flush=True)
    if yes and not changes.lost:
        return
    if not sys.stdin.isatty():
        if yes:
            raise CommandError(
                f"--yes is not for plans that remove what a stack stands on (all of it: {log}); destroy the "
                "stack first, or run smd deploy at a terminal without --yes"
            )
        raise CommandError(
            f"the plan needs your yes, and there is no terminal to ask at: read {log}, then --yes"
        )
    answer = ""
    with contextlib.suppress(EOFError):
        answer = input(f"Apply this for the stack {stack.name}? [yes/no] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was applied")
