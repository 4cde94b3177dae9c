"""Whether a replica hears anybody, decided from whom it has heard before."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

from sipmediadeploy.node.isolation import (
    ANSWER_S,
    LATE_S,
    STRANGERS_EVERY,
    Target,
    Witnesses,
    answers,
    default_gateway,
)
from sipmediadeploy.node.roles.keepalived import ISOLATED_S, RELEASE, SICK, election_value

GATEWAY, PEER, NOBODY = ((IPv4Address(f"198.18.0.{n}"), 9) for n in (1, 2, 3))
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t01001EAC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00001EAC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


class Network:
    def __init__(self, *there: Target) -> None:
        self.there = set(there)
        self.asked: list[Target] = []
        self.asked_often = asyncio.Event()
        self.takes_s = 0.0

    async def ask(self, target: Target) -> bool:
        self.asked.append(target)
        if len(self.asked) > 4:
            self.asked_often.set()
        await asyncio.sleep(self.takes_s)
        return target in self.there


async def test_it_is_cut_off_when_all_who_answered_before_are_silent_twice() -> None:
    network = Network(GATEWAY, PEER)
    witnesses = Witnesses([GATEWAY, PEER, NOBODY], network.ask)
    assert await witnesses.round()
    network.there.clear()
    assert not await witnesses.round()
    assert not witnesses.isolated, "once is no proof: it may have been frozen"
    await witnesses.round()
    assert witnesses.isolated
    network.there.add(PEER)
    await witnesses.round()
    assert not witnesses.isolated


async def test_a_round_for_which_it_had_no_time_proves_nothing() -> None:
    network = Network(GATEWAY, PEER)
    witnesses = Witnesses([GATEWAY, PEER], network.ask)
    await witnesses.round()
    network.there.clear()
    network.takes_s = ANSWER_S + LATE_S + 0.1
    for _ in range(3):
        await witnesses.round()
    assert not witnesses.isolated


async def test_a_dead_peer_is_not_the_own_end() -> None:
    network = Network(GATEWAY, PEER)
    witnesses = Witnesses([GATEWAY, PEER], network.ask)
    await witnesses.round()
    network.there = {GATEWAY}
    for _ in range(5):
        await witnesses.round()
    assert not witnesses.isolated


async def test_one_witness_alone_proves_nothing() -> None:
    network = Network(PEER)
    witnesses = Witnesses([GATEWAY, PEER], network.ask)
    await witnesses.round()
    network.there.clear()
    for _ in range(5):
        await witnesses.round()
    assert not witnesses.isolated


async def test_those_who_never_answered_are_asked_now_and_then() -> None:
    network = Network(GATEWAY)
    witnesses = Witnesses([GATEWAY, NOBODY], network.ask)
    for _ in range(STRANGERS_EVERY):
        await witnesses.round()
    assert network.asked.count(NOBODY) == 1
    network.there.add(NOBODY)
    await witnesses.round()
    network.there = {NOBODY}
    assert await witnesses.round(), "it is a witness now"


async def test_one_witness_is_asked_while_it_answers_and_all_when_it_is_silent() -> None:
    network = Network(GATEWAY, PEER)
    witnesses = Witnesses([GATEWAY, PEER], network.ask)
    await witnesses.round()
    network.asked.clear()
    await witnesses.round()
    assert network.asked == [GATEWAY]
    network.there = {PEER}
    assert await witnesses.round()
    network.asked.clear()
    await witnesses.round()
    assert network.asked == [PEER]


async def test_it_tells_when_it_is_cut_off_and_when_no_more() -> None:
    network = Network(GATEWAY, PEER)
    witnesses = Witnesses([GATEWAY, PEER], network.ask)
    told: asyncio.Queue[bool] = asyncio.Queue()
    running = asyncio.create_task(witnesses.run(lambda: told.put_nowait(witnesses.isolated), lambda: True))
    async with asyncio.timeout(10):
        await network.asked_often.wait()
        network.there.clear()
        assert await told.get() is True
        network.there.add(PEER)
        assert await told.get() is False
    running.cancel()


async def test_being_refused_is_an_answer() -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await answers((IPv4Address("127.0.0.1"), port))
    server.close()
    await server.wait_closed()
    assert await answers((IPv4Address("127.0.0.1"), port))


def test_the_default_gateway_is_found() -> None:
    assert default_gateway(ROUTES) == IPv4Address("172.30.0.1")
    assert default_gateway("header\n") is None


def test_one_that_is_cut_off_stays_out_of_the_election() -> None:
    assert election_value(False, 5.0, False, holder=True, isolated=True) == RELEASE
    assert election_value(False, 5.0, False, holder=True) == SICK
    assert election_value(False, ISOLATED_S + 1, False, holder=True, isolated=True) == SICK
