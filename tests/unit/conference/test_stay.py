"""Stays: who is alone for too long is sent home, and nobody else. Time is the test's own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from sipmediadeploy.gateway.conference import stay
from sipmediadeploy.gateway.conference.stay import Relay, Stay, VisitLost

LIMIT_S = 600.0


class FakeVisit:
    """Counts how often it was asked whether it is alone."""

    def __init__(self, *, alone: bool) -> None:
        self.is_alone = alone
        self.looks = 0
        self.lost = asyncio.Event()
        self.closed = False

    @property
    def alone(self) -> bool:
        self.looks += 1
        return self.is_alone

    async def enter(self) -> None: ...

    async def run(self) -> None:
        await self.lost.wait()
        raise VisitLost("away")

    async def close(self) -> None:
        self.closed = True

    def peer_state(self, peer: str, state: str) -> None: ...

    def channel(self, peer: str, text: str | None) -> None: ...

    def digit(self, digit: str) -> None: ...


class World:
    """A stay whose visits are alone or not, and a clock."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *alone: bool,
        limit_s: float = LIMIT_S,
        relay: Relay | None = None,
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(stay, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(stay, "ALONE_LOOK_S", 0.001)
        monkeypatch.setattr(stay, "BACKOFF_S", (0.001,))
        self.visits = [FakeVisit(alone=one) for one in alone]
        self.made = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stay = Stay("room", self._make, self.ended.set_result, limit_s, relay)

    def _make(self, number: int) -> FakeVisit:
        self.made = number
        return self.visits[number - 1]

    async def looked(self) -> None:
        """Return when the latest visit has been looked at twice more, or the stay has ended."""
        visit = self.visits[self.made - 1]
        seen = visit.looks
        async with asyncio.timeout(10):
            while visit.looks < seen + 2 and not self.ended.done():  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        await self.looked()


async def test_who_is_alone_for_too_long_is_sent_home(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, True)
    await world.stay.start()
    await world.looked()
    await world.pass_time(LIMIT_S - 1)
    assert not world.ended.done()
    await world.pass_time(2)
    async with asyncio.timeout(10):
        assert await world.ended == "alone"
    assert world.visits[0].closed


async def test_company_begins_the_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, True)
    await world.stay.start()
    for is_alone in (True, False, True):
        world.visits[0].is_alone = is_alone
        await world.looked()
        await world.pass_time(LIMIT_S - 1)
        assert not world.ended.done()
    await world.stay.leave()


async def test_an_outage_begins_the_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, True, True)
    await world.stay.start()
    await world.looked()
    await world.pass_time(LIMIT_S - 1)
    world.visits[0].lost.set()
    async with asyncio.timeout(10):
        while world.made < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await world.looked()
    await world.pass_time(LIMIT_S - 10)
    assert not world.ended.done()
    await world.stay.leave()


async def test_without_a_limit_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, True, limit_s=0.0)
    await world.stay.start()
    world.now += 1_000_000
    await asyncio.sleep(0.02)
    assert world.visits[0].looks == 0
    await world.stay.leave()


async def test_leaving_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, True)
    await world.stay.start()
    await world.looked()
    await world.stay.leave()
    assert not world.ended.done()
    assert not [t for t in asyncio.all_tasks() if t.get_name().endswith("-room")]


class FakeRelay:
    def __init__(self) -> None:
        self.moving = asyncio.Event()

    async def moved(self) -> None:
        await self.moving.wait()
        self.moving.clear()


async def test_when_the_relay_moves_the_room_is_joined_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = FakeRelay()
    world = World(monkeypatch, False, False, relay=relay)
    await world.stay.start()
    await world.looked()
    assert world.made == 1
    relay.moving.set()
    async with asyncio.timeout(10):
        while world.made < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert world.visits[0].closed
    assert not world.ended.done()
    await world.stay.leave()
    assert world.visits[1].closed


async def test_with_a_relay_a_visit_that_is_lost_is_followed_by_another_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, False, False, relay=FakeRelay())
    await world.stay.start()
    await world.looked()
    world.visits[0].lost.set()
    async with asyncio.timeout(10):
        while world.made < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await world.stay.leave()
