"""The playbook makes plain servers of a cloud into a stack without Packer, and without a scaler."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest
import yaml

from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.secrets import turn_secret
from sipmediadeploy.protocol.sip_options import sip_options
from tests.harness.playbook import LAST_BYTES, play
from tests.harness.terminal import SMALL, Terminal
from tests.lab.servers.conftest import Fleet

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3000)]
_BLUE, _ORANGE = "2040ff", "ff8c00"


@pytest.fixture(scope="module")
def stack(fleet: Fleet) -> Fleet:
    """The servers as the playbook has made them."""
    began = time.monotonic()
    played = play(fleet.directory)
    print(f"\nthe playbook on {len(LAST_BYTES)} plain servers: {time.monotonic() - began:.0f} s")
    assert set(played.counted("failed").values()) == {0}
    return fleet


def test_the_second_run_changes_nothing(stack: Fleet) -> None:
    began = time.monotonic()
    again = play(stack.directory)
    print(f"\nthe second run: {time.monotonic() - began:.0f} s")
    assert again.counted("changed") == dict.fromkeys(again.counted("ok"), 0)


async def test_each_role_does_its_work(stack: Fleet) -> None:
    for name in LAST_BYTES:
        assert ": ready" in stack.run(name, "smd node --status --wait 90"), name
    master = str(yaml.safe_load((stack.directory / "secrets.yaml").read_text())["master"])
    await sip_options(IPv4Address(stack.public["kamailio"]), 5060, timeout_s=3)
    await turn.allocate(IPv4Address(stack.public["coturn"]), 3478, turn_secret(master), timeout_s=3)


def test_a_call_through_the_floating_ip_has_sound_and_picture(stack: Fleet) -> None:
    caller, to = stack.caller(), ("--to", f"{stack.public['kamailio']}:5060")
    one = Terminal(caller, "room", *to, *SMALL, "--name", "one", "--tone", "440", "--colour", _BLUE)
    other = Terminal(caller, "room", *to, *SMALL, "--name", "other", "--tone", "660", "--colour", _ORANGE)
    with one, other:
        one.wait_hears(660)
        one.wait_sees(_ORANGE)
        other.wait_hears(440)
        other.wait_sees(_BLUE)
