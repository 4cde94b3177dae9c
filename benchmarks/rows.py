"""One measurement each, and the table of them. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Delays:
    """Medians of what a receiving terminal measured, from generated to decoded; None: nothing measured."""

    picture_ms: int | None
    sound_ms: int | None


def delays_of(seconds: list[dict[str, Any]]) -> Delays:
    """From the "second" events of the terminals that decode."""
    picture = [event["seen"]["delay_ms"] for event in seconds if event["seen"]["delay_ms"] is not None]
    sound = [event["heard"]["delay_ms"] for event in seconds if event["heard"]["delay_ms"] is not None]
    return Delays(
        round(statistics.median(picture)) if picture else None,
        round(statistics.median(sound)) if sound else None,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. Percentages are of one core."""

    what: str
    media: str
    calls: int
    cpu_percent_per_call: float
    memory_mb_per_call: float
    """Growth of the containers' working sets, per call."""
    worker_mb: float
    """Mean PSS of the processes that the calls keep busy."""
    picture_delay_ms: int | None = None
    sound_delay_ms: int | None = None
    added_picture_ms: int | None = None
    """Against the plain pipeline."""
    added_sound_ms: int | None = None
    lost_packets: int = 0
    problem: str = ""


def with_added(row: Row, plain: Delays) -> Row:
    """The row with its delay beyond the plain pipeline's."""

    def beyond(own: int | None, other: int | None) -> int | None:
        return None if own is None or other is None else own - other

    return replace(
        row,
        added_picture_ms=beyond(row.picture_delay_ms, plain.picture_ms),
        added_sound_ms=beyond(row.sound_delay_ms, plain.sound_ms),
    )


def table(rows: list[Row]) -> str:
    """For people."""
    widths = (15, 6, 5, 10, 8, 9, 19, 17, 5)
    head = ("", "media", "calls", "CPU %/call", "MB/call", "worker MB")
    lines: list[tuple[str, ...]] = [(*head, "picture ms (added)", "sound ms (added)", "lost")]
    for row in rows:
        start = (row.what, row.media, str(row.calls))
        if row.problem and not row.cpu_percent_per_call:
            lines.append((*start, f"not measured: {row.problem}"))
            continue
        delays = (
            _delay(row.picture_delay_ms, row.added_picture_ms),
            _delay(row.sound_delay_ms, row.added_sound_ms),
        )
        costs = (row.cpu_percent_per_call, row.memory_mb_per_call, row.worker_mb)
        lines.append(
            (*start, *(f"{cost:.1f}" for cost in costs), *delays, str(row.lost_packets), row.problem)
        )
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, (*widths, 0), strict=False))
        ).rstrip()
        for line in lines
    )


def _delay(total: int | None, added: int | None) -> str:
    return "-" if total is None else f"{total}" if added is None else f"{total} ({added:+d})"
