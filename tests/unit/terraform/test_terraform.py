"""Terraform (or OpenTofu) itself, where it is installed (`tests/harness/terraform.py`), on a fake cloud."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sipmediadeploy.cli.config import described_foundation, effective
from sipmediadeploy.providers.lease import Mark
from sipmediadeploy.providers.openstack import replicas
from sipmediadeploy.stack import Limits, Network, Role, Stack
from tests.harness import terraform
from tests.unit.providers.openstack.conftest import SUBNET, Trial
from tests.unit.providers.openstack.fake_cloud import PASSWORD, FakeCloud
from tests.unit.terraform.module import Declared
from tests.unit.terraform.stacks import stack_of
from tests.unit.terraform.standing import standing_in

installed = pytest.mark.skipif(not terraform.TOOL, reason="neither terraform nor tofu is on the PATH")
with_provider = pytest.mark.skipif(not terraform.usable(), reason=terraform.WHY_NOT)
SMD = """#!{python}
import json, pathlib, sys
here = pathlib.Path({here!r})
with (here / "said").open("a") as said:
    said.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "down":
    from sipmediadeploy.providers.openstack import cloud, leftovers
    credentials = json.loads((here / "credentials.json").read_text())
    leftovers.remove_stack(cloud.Cloud(lambda: credentials), "demo")
sys.exit((here / "broken").exists())
"""


@dataclass(frozen=True, slots=True)
class Example:
    """The example in a directory of its own, with an ``smd`` that takes down what the scaler made."""

    path: Path
    cloud: FakeCloud
    environment: dict[str, str] = field(default_factory=dict)

    def prepare(self, stack: Stack) -> None:
        """Write the effective stack and what Terraform is told, and initialize."""
        self.environment.update(terraform.prepare(self.path / "terraform"))
        told = json.dumps(effective(stack) | described_foundation(stack))
        (self.path / "terraform/example/effective-stack.json").write_text(told)
        (self.path / "credentials.json").write_text(json.dumps(self.cloud.credentials()))
        smd = self.path / "the smd"
        smd.write_text(SMD.format(python=sys.executable, here=str(self.path)))
        smd.chmod(0o755)
        self.run("init")

    def run(self, *words: str, code: int = 0) -> str:
        """Run Terraform in the example; it must end with ``code``."""
        given = {"smd": self.path / "the smd", "stack_file": self.path / "my stack.yaml"}
        options = [f"-var={name}={value}" for name, value in given.items()] if words[0] in _TOLD else []
        result = subprocess.run(
            [terraform.TOOL, words[0], "-no-color", *options, *words[1:]],
            cwd=self.path / "terraform/example",
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def said(self) -> list[str]:
        """The commands of ``smd`` that were run, without the stack file."""
        file, stack = self.path / "said", f" --stack {self.path / 'my stack.yaml'}"
        return [line.removesuffix(stack) for line in file.read_text().splitlines()]

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "TF_"))}
        return (
            kept
            | self.environment
            | {
                "OS_AUTH_URL": f"{self.cloud.url}/v3",
                "OS_USERNAME": "u",
                "OS_PASSWORD": PASSWORD,
                "OS_PROJECT_NAME": "p",
                "OS_USER_DOMAIN_NAME": "Default",
                "OS_PROJECT_DOMAIN_NAME": "Default",
                "OS_REGION_NAME": "RegionOne",
            }
        )


_TOLD = ("plan", "apply", "destroy")


@pytest.fixture
def example(tmp_path: Path, empty_cloud: FakeCloud) -> Example:
    return Example(tmp_path, empty_cloud)


@installed
def test_it_is_written_as_terraform_formats_it() -> None:
    run = subprocess.run(
        [terraform.TOOL, "fmt", "-check", "-diff", "-recursive", str(terraform.SOURCES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@with_provider
@pytest.mark.parametrize("which", ["with operators", "without service addresses", "operators' network"])
def test_terraform_makes_what_is_declared_and_nothing_the_second_time(which: str, example: Example) -> None:
    stack = stack_of(which)
    example.prepare(stack)
    assert "valid" in example.run("validate")
    example.run("apply", "-auto-approve")
    data = json.loads(json.dumps(described_foundation(stack)))["foundation"]
    assert standing_in(example.cloud) == Declared(data).standing()
    example.run("plan", "-detailed-exitcode")


@with_provider
def test_a_stack_lives_and_ends_with_terraform(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_LOOK_S", 0.01)
    example.prepare(stack_of("smallest").model_copy(update={"network": Network(subnet=SUBNET)}))
    broken = example.path / "broken"
    broken.touch()
    example.run("apply", "-auto-approve", code=1)
    broken.unlink()
    example.run("apply", "-auto-approve")
    assert example.said() == ["bootstrap", "bootstrap"], "a bootstrap that failed is tried again"
    example.run("plan", "-detailed-exitcode")
    example.run("apply", "-auto-approve", "-var=bootstrap=false")
    assert example.said() == ["bootstrap", "bootstrap"], "and one that is not wanted ends nothing"

    example.cloud.images_and_flavors([str(role) for role in Role])
    asyncio.run(_run_a_while(example.cloud))
    assert len(example.cloud.things["servers"]) == 2
    assert "No changes" in example.run("plan", "-detailed-exitcode", "-var=bootstrap=false")
    example.run("destroy", "-auto-approve", "-var=bootstrap=false")
    assert example.said()[2:] == ["down"]
    left = {kind: len(things) for kind, things in example.cloud.things.items() if things}
    assert left == {"networks": 2, "subnets": 2, "images": 10, "flavors": 3}, "the cloud's own"


async def _run_a_while(cloud: FakeCloud) -> None:
    """What scalers do: replicas and a lease; an operator detaches a floating IP, too."""
    trial, limits = Trial(cloud), Limits(cpus=1.0, memory_mib=512)
    provider = trial.provider()
    for role in (Role.KAMAILIO, Role.GATEWAY):
        await provider.create(trial.document(role), limits)
    await provider.lease().create("one", 1, Mark(0))
    cloud.things["floatingips"][0]["port_id"] = None
