"""The page "Your first deployment on OpenStack", followed on the lab: the commands are those of its boxes.

Images are made by the lab, as the page's last part allows; ``tests/lab/stack`` has Packer build some.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sipmediadeploy.images.build import ensure_images
from sipmediadeploy.providers.docker.engine import ensure_engine
from tests.harness import terraform
from tests.harness.openstack.cloud_stack import CloudStack, connect_as
from tests.harness.openstack.making import reach
from tests.harness.running import ROOT, eventually, run
from tests.harness.terminal import SMALL, Terminal
from tests.lab.openstack.running import running_lab
from tests.lab.openstack.tenants import say
from tests.lab.page.reader import Box, boxes, commands, type_in

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3000)]
_PAGE = ROOT / "docs" / "first-deployment.md"
_WHOLE_S = 300.0
_FILLED = {"MYCLOUD": "lab"}


@dataclass(frozen=True, slots=True)
class Reader:
    """Who follows the page, in a checkout of his own."""

    directory: Path
    parts: dict[str, list[Box]]
    stack: CloudStack

    def box(self, part: str, number: int) -> Box:
        """The box of that number of the part whose heading begins so."""
        (found,) = [boxes for heading, boxes in self.parts.items() if heading.startswith(part)]
        return found[number]

    def follow(
        self, part: str, number: int = 0, filled: Mapping[str, str] = _FILLED, good: Sequence[int] = (0,)
    ) -> str:
        """Type what is in a box; what was printed."""
        said = ""
        for command in commands(self.box(part, number), filled):
            began = time.monotonic()
            said += type_in(self.directory, command, good)
            print(f"{command}: {time.monotonic() - began:.1f} s")
        return said

    def deploy(self) -> str:
        """``./smd deploy`` of part 5; networks by smd, as its table says, where Terraform has no provider."""
        by_smd = "" if terraform.usable() or not terraform.TOOL else " --foundation smd"
        return self.follow("5. Deploy", filled={"./smd deploy": f"./smd deploy{by_smd}"})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """With the lab, the images, and a clone of what is committed."""
    if shutil.which("openstack") is None:
        pytest.skip("the page's second part was not followed: apt-get install python3-openstackclient")
    directory = tmp_path_factory.mktemp("reader") / "sipmediadeploy"
    with running_lab() as lab:
        reach(lab, say)
        ensure_images(ensure_engine(say), say)
        run("git", "clone", "--quiet", str(ROOT), str(directory), timeout=120)
        if terraform.usable():
            os.environ.update(terraform.configure(directory.parent))
        cloud, admin = connect_as("lab"), connect_as("lab-admin")
        stack = CloudStack("first", directory / "stack.yaml", "", lab, cloud, admin)
        yield Reader(directory, boxes(_PAGE.read_text()), stack)
        if stack.left():
            stack.smd("down", "--foundation")


def test_the_stack_file_is_written_and_nothing_is_in_the_way(reader: Reader) -> None:
    reader.follow("4. The stack file", 0)
    text = reader.box("4. The stack file", 1).text
    for said, instead in {
        "cloud: MYCLOUD": "cloud: lab",
        "api_from: [198.51.100.0/24]": f"api_from: [{reader.stack.lab.network}]",
        "# external_network: public": "external_network: public",
    }.items():
        assert said in text
        text = text.replace(said, instead)
    reader.stack.stack_file.write_text(text)
    found = reader.follow("4. The stack file", 2, good=(0, 1))  # 1: networks are not there yet
    assert not [line for line in found.splitlines() if line.startswith("problem")], found


def test_one_command_deploys_it(reader: Reader) -> None:
    said = reader.deploy()
    print(said)
    assert "The stack first is whole." in said
    assert f"sip:ROOM@{reader.stack.floating_ip('kamailio')}" in said
    assert "first-scaler-0" in reader.follow("6. Look")


def test_what_breaks_is_healed_while_a_call_goes_on(reader: Reader) -> None:
    stack = reader.stack
    one = Terminal(stack, "demo", *SMALL, "--name", "one", "--tone", "440", seconds=300)
    other = Terminal(stack, "demo", *SMALL, "--name", "other", "--tone", "660", seconds=300)
    with one, other:
        one.wait_hears(660)
        other.wait_hears(440)
        active = str(stack.active("kamailio")["name"])
        _, delete, _ = commands(reader.box("8. Break it", 0), {**_FILLED, "first-kamailio-0": active})
        type_in(reader.directory, delete)
        eventually(lambda: stack.active("kamailio")["name"] != active, 10, "the other one is active")
        one.wait_hears(660)
        eventually(
            lambda: active not in {replica["name"] for replica in stack.replicas("kamailio")},
            60,
            "it is seen",
        )
        stack.wait_whole(_WHOLE_S)
        one.wait_hears(660)
    reader.follow("8. Break it", 1)
    eventually(
        lambda: "first-gateway-0" not in {one["name"] for one in stack.replicas("gateway")},
        _WHOLE_S,
        "the gateway is replaced",
        every=1,
    )
    stack.wait_whole(_WHOLE_S)


def test_a_change_is_deployed_in_the_same_way(reader: Reader) -> None:
    with reader.stack.stack_file.open("a") as out:
        out.write("pools: {gateway: {max: 8}}\n")
    assert "The stack first is whole." in reader.deploy()


def test_it_is_removed_and_nothing_is_left(reader: Reader) -> None:
    reader.follow("10. Remove it", 0 if terraform.usable() else 1)
    assert reader.stack.left() == []
    assert "smd-gateway" in reader.follow("10. Remove it", 2)
