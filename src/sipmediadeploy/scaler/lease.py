"""Who leads: the scaler that holds the lease, and only while it is sure that it does.

The rules are in ``docs/decisions/0061-the-lease.md``. Times are this scaler's own monotonic clock; clocks of
scalers need not agree, and may differ in speed by 10 %.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeGuard

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.lease import LeaseGone, LeaseRecord, LeaseStore, LeaseTaken, Mark


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds."""

    duration: float = 2.0
    """D: a holder is sure for so long after a renewal was sent; a record that has not changed for so long is
    given up by the others."""
    renew: float = 0.5
    look: float = 0.3
    settle: float = 1.25
    """Times ``duration``: how long a new holder waits when it can't know that the old one has stopped."""
    unseen: float = 2.5
    """Times ``duration``: how long a scaler that has never read a record waits when there is none. Another
    one may be between deleting the old record and making its own, and it knows whether that was paused."""
    yielding: float = 7.0
    """So long a scaler that has handed the lease over lets others take it."""
    turn: float = 0.35
    """So much later each next scaler tries to take the lease: those that try at one time slow each other
    down. One that has tried in vain waits twice as long each time."""
    longest_turn: float = 3.5

    def slower(self, pace: float) -> LeaseTiming:
        """All of the times, multiplied by ``pace``."""
        return LeaseTiming(
            duration=self.duration * pace,
            renew=self.renew * pace,
            look=self.look * pace,
            settle=self.settle,
            unseen=self.unseen,
            yielding=self.yielding * pace,
            turn=self.turn * pace,
            longest_turn=self.longest_turn * pace,
        )


_ASKED_S = 0.1
"""So often it is looked whether all agents have been asked for the terms that they know."""

_ROUNDED_S = 0.001
"""What is less is no time: a clock that is read again need not have gone on."""

Told = Callable[[str], None]
"""Told what has happened, in an operator's words."""
Turn = Callable[[str | None], int]
"""How many scalers come before this one when somebody must follow the given holder."""


def _first(_holder: str | None) -> int:
    return 0


class Lease:
    """One scaler's view of the lease. :meth:`run` keeps it; :attr:`leads` says whether to act."""

    def __init__(
        self,
        store: LeaseStore,
        holder: str,
        highest_term: Callable[[], int | None],
        told: Told,
        timing: LeaseTiming | None = None,
        turn: Turn = _first,
    ) -> None:
        """``highest_term`` is the highest that any agent has told of; None: they have not all been asked,
        and the lease is not taken yet. ``turn`` need not be right: it only keeps scalers out of each
        other's way.
        """
        self._store = store
        self._holder = holder
        self._highest_term = highest_term
        self._told = told
        self._timing = timing or LeaseTiming().slower(store.pace)
        self._turn = turn
        self._mine: LeaseRecord | None = None
        self._from = 0.0
        self._until = 0.0
        self._other: LeaseRecord | None = None
        self._highest_read = 0
        self._unchanged_since: float | None = None
        """Since when ``_other`` is what was read; None: nothing was, since this scaler had the lease."""
        self._tries = 0
        """How often it tried in vain to follow ``_other``."""
        self._try_at = 0.0
        self._yield_until = 0.0
        self._error: str | None = None
        self._paused = False
        self._changing = asyncio.Lock()
        """One change of the own record at a time: a late one must not undo a newer one."""

    @property
    def leads(self) -> bool:
        """It may act now. Ask again before each request: time passes."""
        return self._mine is not None and self._from <= _now() < self._until

    @property
    def term(self) -> int:
        """The term of the own record; 0 without one."""
        return self._mine.term if self._mine is not None else 0

    @property
    def leader(self) -> str | None:
        """Who holds the lease, as far as is known."""
        if self._mine is not None:
            return self._holder
        return self._other.holder if self._other is not None and not self._other.mark.released else None

    @property
    def paused(self) -> bool:
        """An operator wants scalers to watch only; it is kept over changes of leader."""
        return self._paused

    async def run(self, stop: asyncio.Event) -> None:
        """Keep or await the lease until ``stop`` is set. Never raises."""
        while not stop.is_set():
            began, again_in = _now(), 0.05
            try:
                await self._step()
                self._trouble(None)
            except ProviderError as e:
                self._trouble(str(e))
                # Who asks at once what took too long a moment ago keeps a slow store from catching up.
                again_in += min(_now() - began, self._timing.longest_turn)
            # Those who would come late anyway need not look as often: a small cloud is kept busy by reading.
            look = self._timing.look * (1 + self._behind() / 2)
            period = self._timing.renew if self._mine is not None else look
            end = began + period
            if self._mine is None and began < (due := self._due()):
                end = min(end, due)
            await self._pause(stop, max(end, _now() + again_in))

    async def _pause(self, stop: asyncio.Event, end: float) -> None:
        """Until ``end``, or as soon as the terms become known without which the lease is not taken."""
        unknown = self._highest_term() is None
        while not stop.is_set() and (left := end - _now()) > _ROUNDED_S:
            try:
                async with asyncio.timeout(min(left, _ASKED_S) if unknown else left):
                    await stop.wait()
            except TimeoutError:
                pass
            if unknown and self._highest_term() is not None:
                return

    async def confirm(self) -> bool:
        """Read the record again: whether this scaler leads, as the store sees it now.

        Raises:
            ProviderError: it can't be read.
        """
        if not self.leads or self._mine is None:
            return False
        mine = self._mine.id
        record = await self._store.read()
        still = self._mine is not None and self._mine.id == mine
        if still and (record is None or record.id != mine):
            self._lose("another scaler has taken the lease")
        return self.leads

    async def pause(self, paused: bool) -> None:
        """Have scalers watch only, or act again.

        Raises:
            LeaseGone: this scaler does not lead.
            ProviderError: it can't be written.
        """
        async with self._changing:
            if self._mine is None or not self.leads:
                raise LeaseGone("this scaler does not lead")
            self._paused = paused
            await self._write(self._mine)

    async def release(self, why: str) -> None:
        """Hand the lease over at once; what was sent before may still take effect. Never raises."""
        mine, self._mine = self._mine, None
        if mine is None:
            return
        self._yield_until = _now() + self._timing.yielding
        self._told(f"hands the lease over: {why}")
        async with self._changing:
            try:
                await self._store.change(mine.id, replace(mine.mark, released=True, paused=self._paused))
            except (ProviderError, LeaseGone) as e:
                self._trouble(f"the lease was not released: {e}")

    async def _step(self) -> None:
        if self._mine is not None:
            await self._renew(self._mine)
        else:
            await self._look()

    async def _renew(self, mine: LeaseRecord) -> None:
        highest = self._highest_term()
        if highest is not None and highest > mine.term:
            await self.release(f"an agent has seen term {highest}, and this is {mine.term}")
            self._yield_until = 0.0
            return
        async with self._changing:
            if self._mine is not None:
                await self._write(self._mine)

    async def _write(self, mine: LeaseRecord) -> None:
        """Renew the own record. Hold the lock."""
        sent, mark = _now(), Mark(mine.mark.counter + 1, released=False, paused=self._paused)
        try:
            await self._store.change(mine.id, mark)
        except LeaseGone:
            self._lose("another scaler has taken the lease")
            return
        if self._mine is not None and self._mine.id == mine.id:
            self._mine = replace(mine, mark=mark)
            self._until = max(self._until, sent + self._timing.duration)

    async def _look(self) -> None:
        record = await self._store.read()
        now = _now()
        if self._unchanged_since is None or record != self._other:
            self._other, self._unchanged_since = record, now
            self._tries, self._try_at = 0, 0.0
        if record is not None:
            self._paused = record.mark.paused
            self._highest_read = max(self._highest_read, record.term)
        if self._highest_term() is None or now < self._yield_until:
            return
        if self._is_reserved(record):
            await self._adopt(record)
            return
        if now < self._due():
            return
        try:
            await self._follow(record)
        finally:
            pause = (self._behind() + 1) * self._timing.turn * 2.0 ** min(self._tries, 8)
            self._tries += 1
            self._try_at = _now() + min(pause, self._timing.longest_turn)

    def _due(self) -> float:
        """When this scaler may try to follow ``_other``, unless its record changes before."""
        if self._unchanged_since is None:
            return 0.0
        wait = self._behind() * self._timing.turn
        if self._other is None and self._highest_read == 0:
            wait += self._timing.unseen * self._timing.duration
        elif self._other is not None and not self._other.mark.released:
            wait += self._timing.duration
        return max(self._unchanged_since + wait, self._try_at)

    def _is_reserved(self, record: LeaseRecord | None) -> TypeGuard[LeaseRecord]:
        """Whether the record was made for this scaler, before any led (see ``LeaseRecord.is_reserved``)."""
        return (
            record is not None
            and record.holder == self._holder
            and record.is_reserved
            and self._highest_term() == 0
        )

    async def _adopt(self, record: LeaseRecord) -> None:
        """Hold a record that was made for this scaler: one request, where taking the lease needs four.

        Others treat it as held: who gave it up waits until this renewal, too, has run out.
        """
        sent, mark = _now(), replace(record.mark, counter=record.mark.counter + 1)
        try:
            await self._store.change(record.id, mark)
        except LeaseGone:
            return
        self._hold(replace(record, mark=mark), sent, acts_from=sent)

    async def _follow(self, record: LeaseRecord | None) -> None:
        """Take the lease in place of ``record``, which is the holder's no more."""
        if record is None:
            await self._take(sure=False)
            return
        sure = record.mark.released
        if not sure and not self._tries:
            self._told(f"{record.holder} has not renewed the lease for {self._timing.duration:g} s")
        if await self._store.delete(record.id):
            await self._take(sure=sure)

    def _behind(self) -> int:
        return self._turn(self._other.holder if self._other is not None else None)

    async def _take(self, *, sure: bool) -> None:
        """Make the own record; ``sure``: the old holder has stopped, for it said so."""
        term = 1 + max(self._highest_read, self._highest_term() or 0)
        sent = _now()
        try:
            mine = await self._store.create(self._holder, term, Mark(counter=1, paused=self._paused))
        except LeaseTaken:
            return
        self._hold(mine, sent, sent if sure else _now() + self._timing.settle * self._timing.duration)

    def _hold(self, mine: LeaseRecord, sent: float, acts_from: float) -> None:
        self._mine, self._other, self._unchanged_since, self._highest_read = mine, None, None, mine.term
        self._until, self._from = sent + self._timing.duration, acts_from
        self._told(f"has the lease, term {mine.term}")

    def _lose(self, why: str) -> None:
        self._mine = None
        self._told(f"has lost the lease: {why}")

    def _trouble(self, error: str | None) -> None:
        if error is not None and error != self._error:
            self._told(f"the lease can't be kept: {error}")
        self._error = error


def _now() -> float:
    return asyncio.get_running_loop().time()
