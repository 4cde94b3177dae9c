"""How many gateways there should be. Pure."""

from __future__ import annotations

from math import ceil

from sipmediadeploy.stack import GatewayPool

Demand = tuple[tuple[float, int], ...]
"""(time, gateways needed), oldest first, each need greater than all later ones."""


def gateways_needed(pool: GatewayPool, calls: int) -> int:
    """How many gateways take ``calls`` calls and keep ``spare`` places free, within ``min`` and ``max``."""
    return min(max(ceil((calls + spare_places(pool.spare, calls)) / pool.calls), pool.min), pool.max)


def spare_places(spare: int | str, calls: int) -> int:
    """How many places are to be free: a number, or a share of ``calls`` ('25%'), rounded up."""
    if isinstance(spare, int):
        return spare
    return ceil(calls * int(spare.removesuffix("%")) / 100)


def remember(demand: Demand, now: float, needed: int, window: float) -> Demand:
    """``demand`` with the need at ``now``, without what is older than ``window`` s or surpassed since."""
    kept = tuple((at, n) for at, n in demand if n > needed and now - at < window)
    return (*kept, (now, needed))


def peak(demand: Demand) -> int:
    """The greatest need within the window; 0 when nothing is known."""
    return demand[0][1] if demand else 0
