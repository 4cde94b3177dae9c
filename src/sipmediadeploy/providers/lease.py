"""The lease's store: one record that a provider creates only when there is none.

A provider that can do that one thing atomically can hold the lease; everything else about it is the scalers'
(``scaler/lease.py``, ``docs/decisions/0061-the-lease.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class LeaseTaken(Exception):
    """There is a record already."""


class LeaseGone(Exception):
    """That record is not there any more: somebody has taken the lease over."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a holder changes of its record; one change is atomic."""

    counter: int = 0
    """Grows by one with each renewal; only that it changes matters, and it may wrap."""
    released: bool = False
    """The holder has stopped: who removes the record may act at once."""
    paused: bool = False
    """An operator wants scalers to watch only."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The record as it was read."""

    id: str
    """The store's own; a record that is made anew has another one."""
    holder: str
    """The name of the scaler that made it, or for which it was made (:func:`reserve`)."""
    term: int
    mark: Mark

    @property
    def is_reserved(self) -> bool:
        """Nobody has led by it yet: its holder may do so at once, by a renewal."""
        return self.mark.counter == 0 and not self.mark.released


FIRST_TERM = 1


async def reserve(store: LeaseStore, holder: str | None) -> None:
    """Make the record before any scaler leads, so that the first one need not wait for another to stop.

    With a ``holder`` it is reserved for the scaler of that name, which must be the stack's first replica:
    then no order has been given, and it leads by one renewal. Else any scaler may take it at once.

    Raises:
        LeaseTaken: there is one.
        ProviderError: the store can't be used.
    """
    if holder is None:
        await store.create("smd", 0, Mark(released=True))
    else:
        await store.create(holder, FIRST_TERM, Mark())


class LeaseStore(Protocol):
    """Holds at most one record. Every method has a time limit, and raises ``ProviderError`` when the store
    can't be used; then it is not known whether the change was made.
    """

    @property
    def pace(self) -> float:
        """By what the lease's usual times (``scaler.lease.LeaseTiming``) are multiplied, the same for all
        scalers of a stack: over 1 where answers may take seconds.
        """
        ...

    async def read(self) -> LeaseRecord | None:
        """The record, if there is one."""
        ...

    async def create(self, holder: str, term: int, mark: Mark) -> LeaseRecord:
        """Make the record; of any number of callers at one time exactly one succeeds.

        Raises:
            LeaseTaken: there is one.
        """
        ...

    async def change(self, record_id: str, mark: Mark) -> None:
        """Change the mark of that very record.

        Raises:
            LeaseGone: that record is gone, whether or not there is another one.
        """
        ...

    async def delete(self, record_id: str) -> bool:
        """Remove that very record; True for the one caller whose doing it was."""
        ...
