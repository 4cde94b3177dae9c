"""Measures the plain pipeline between two terminals without SIP; prints one JSON object.

    python -m benchmarks.plain audio|video SECONDS

Needs GStreamer: :mod:`benchmarks.call_cost` runs it in a container of the gateway's image.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

from benchmarks.measure import usages
from benchmarks.rows import Row, delays_of
from benchmarks.terminals import PlainPair

_SETTLE_S = 3


def plain_row(media: str, seconds: float) -> Row:
    """One call's media through the plain pipeline."""
    pair = PlainPair(media == "video")
    try:
        time.sleep(_SETTLE_S)
        pair.second(0)
        before, began, reports = usages([pair.pid])[0], time.monotonic(), []
        for t in range(1, int(seconds) + 1):
            time.sleep(max(0.0, began + t - time.monotonic()))
            reports.append(pair.second(t))
        after, span = usages([pair.pid])[0], time.monotonic() - began
    finally:
        pair.close()
    delays = delays_of(reports)
    return Row(
        "plain pipeline",
        media,
        1,
        round(100 * (after.cpu_seconds - before.cpu_seconds) / span, 2),
        round(after.pss / 1e6, 1),
        round(after.pss / 1e6, 1),
        delays.picture_ms,
        delays.sound_ms,
        lost_packets=sum(reports[-1][kind]["lost"] for kind in ("audio_in", "video_in")),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(plain_row(sys.argv[1], float(sys.argv[2])))))
