"""With ``turn: always`` media is relayed; a stack file may say so while calls stand, and costs none."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sipmediadeploy.protocol.replica import TURN_PORT, ConferenceDemoService, CoturnService
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.stack import load_stack
from tests.harness.running import RunningStack, eventually, run
from tests.harness.terminal import SMALL, Terminal

pytestmark = pytest.mark.e2e

PACKETS = 300


@pytest.fixture(scope="module")
def before(published: RunningStack) -> Iterator[str]:
    """The stack file as it was; it is so again at the end."""
    text = published.stack_file.read_text()
    yield text
    published.stack_file.write_text(text)


@pytest.mark.promise(1)
def test_a_changed_stack_file_replaces_the_gateway_and_costs_no_call(
    published: RunningStack, before: str
) -> None:
    published.wait_whole()
    (old,) = published.replicas("gateway")
    with (
        Terminal(published, "rolling", "--name", "One", "--tone", "440", *SMALL, seconds=240) as one,
        Terminal(published, "rolling", "--name", "Two", "--tone", "660", *SMALL, seconds=240) as two,
    ):
        one.wait_hears(660)
        two.wait_hears(440)
        published.stack_file.write_text(f"{before}turn: always\n")
        print(published.smd("up"))

        (new,) = eventually(
            lambda: [one for one in published.replicas("gateway") if one["name"] != old["name"]],
            30,
            "there is a new gateway",
        )
        draining = next(one for one in published.replicas("gateway") if one["name"] == old["name"])
        assert draining["state"] == "draining", draining
        with Terminal(published, "rolling", "--name", "Three", "--tone", "880", *SMALL) as three:
            three.wait_hears(440)
            one.wait_hears(880)
            assert _callers(published, old) == {"One", "Two"}
            assert _callers(published, new) == {"Three"}
            assert three.hang_up()["verdict"] == "ok"
        one.wait_hears(660)
        for summary in (one.hang_up(), two.hang_up()):
            assert (summary["verdict"], summary["ended_by"]) == ("ok", "here"), summary
            assert summary["longest_audio_gap_ms"] < 5000, "the call paused"  # a busy machine stumbles
    eventually(
        lambda: [one["name"] for one in published.replicas("gateway")] == [new["name"]],
        60,
        "the old gateway is gone after its last call",
        every=1,
    )
    published.wait_whole()


def test_the_conference_leg_is_relayed_by_our_turn_server_alone(stack: RunningStack) -> None:
    stack.wait_whole()
    turn = stack.active("coturn")
    with (
        Terminal(stack, "relayed", "--name", "One", "--tone", "440", "--colour", "ff8000", *SMALL) as one,
        Terminal(stack, "relayed", "--name", "Two", "--tone", "660", "--colour", "8000ff", *SMALL) as two,
    ):
        one.wait_sees("8000ff")
        one.wait_hears(660)
        two.wait_sees("ff8000")
        two.wait_hears(440)
        gateway = next(one for one in stack.replicas("gateway") if "One" in _callers(stack, one))
        at_gateway = _packets(stack, gateway["id"])
        at_turn = _packets(stack, turn["id"])
        assert one.hang_up()["verdict"] == "ok"
        assert two.hang_up()["verdict"] == "ok"
    server = (stack.service_address("coturn"), TURN_PORT)
    for to_it in (True, False):
        assert sum(n for (here, there), n in at_gateway.items() if server == (there if to_it else here)) > 20
    janus = _ports(ConferenceDemoService, "rtp_ports")
    gateway_rtp = addresses.rtp_ports(load_stack(stack.stack_file), gateway["slot"])
    relay = _ports(CoturnService, "relay_ports")
    terminals = range(gateway_rtp[0], gateway_rtp[1] + 1)
    around = [
        pair
        for pair in at_gateway
        # The gateway's own port towards the TURN server may be any, and in Janus's range, too.
        if server not in pair
        and any(port in janus for _, port in pair)
        and not any(port in terminals for _, port in pair)
    ]
    assert not around, f"the gateway talks to Janus past the TURN server: {around}"
    to_janus = sum(n for ((_, a), (_, b)), n in at_turn.items() if a in relay and b in janus)
    from_janus = sum(n for ((_, a), (_, b)), n in at_turn.items() if a in janus and b in relay)
    assert to_janus > 20
    assert from_janus > 20


def _callers(stack: RunningStack, gateway: dict[str, Any]) -> set[str]:
    return {call["name"] for call in json.loads(stack.gateway_server(gateway["id"], "/calls"))}


def _ports(service: type[CoturnService | ConferenceDemoService], field: str) -> range:
    first, last = service.model_fields[field].default
    return range(first, last + 1)


Place = tuple[str, int]


def _packets(stack: RunningStack, container: str) -> Counter[tuple[Place, Place]]:
    """How many UDP packets went from where to where, as seen in the container's network namespace."""
    words = ["docker", "run", "--rm", "--network", f"container:{container}", stack.test_image]
    said = run(*words, "timeout", "20", "tcpdump", "-n", "-q", "-i", "eth0", "-c", str(PACKETS), "udp")
    found = re.findall(r"IP (\S+)\.(\d+) > (\S+)\.(\d+): ", said)
    return Counter(((a, int(ap)), (b, int(bp))) for a, ap, b, bp in found)
