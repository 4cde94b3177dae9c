"""What a call into a Jitsi Meet takes: joining, first picture, pauses, CPU and memory; beside Janus.

    JVB_CP=… JICOFO_CP=… LJM=… python -m benchmarks.jitsi_call [--joins 20] [--loss 0 3] [--json]

It starts a Jitsi from an installation (see tests/harness/jitsi) and a stack that calls it, then a stack with
the demo conference; both are taken down at the end. All terminals are SIP terminals on one gateway that send
pictures (30 a second) encoded before: one stays in the room, and a second one joins and leaves again and
again. Then both stay, and CPU time of the gateway's container, the workers' memory and the longest gap
between two decoded frames are read. Then one joins again and again whom a browser in the room waits for. Loss
is made on the bridge's packets, by nftables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.harness.browser_participant import BrowserParticipant
from tests.harness.jitsi.backend import MEDIA_PORT, running_backend
from tests.harness.jitsi.installation import NoJitsi, find_installation
from tests.harness.running import RunningStack

from benchmarks.call_cost import cpu_share
from benchmarks.measure import NoCgroup, busy_ones, usages
from benchmarks.running import NAME, ROOT, BenchStack, NoStack, bench_stack, tell
from benchmarks.terminals import Terminal, wait_until
from sipmediadeploy.images.build import ensure_test_image
from sipmediadeploy.providers.docker.engine import ensure_engine

_BRIDGE = ("rtx", "tcc", "data_channel")
_NFT_TABLE = "smd_bench_loss"
_JOIN_S = 4
_ANSWER_TIMEOUT_S = 60
_SETTLE_S = 6
_MB = 1e6


@dataclass(frozen=True, slots=True)
class JoinRow:
    """One platform at one loss. Times in ms from the INVITE; percentages of one core."""

    platform: str
    loss_percent: int
    bridge: str
    """What was negotiated with it."""
    kbps: int
    joins: int
    failed: int
    answer_p50: int
    answer_p95: int
    picture_p50: int
    """First decoded frame."""
    picture_p95: int
    sound_p50: int
    sound_p95: int
    browser_p50: int
    """First frame that a browser in the room shows of who joins."""
    browser_p95: int
    cpu_percent_per_call: float
    memory_mb_per_call: float
    """By how much the gateway's container is smaller when the two calls are over, halved."""
    worker_mb: float
    """Mean PSS of the workers of the two calls."""
    longest_gap_ms: int
    """Between two decoded frames, in ``seconds``."""
    seconds: int
    idle_percent: float
    """CPU of the gateway's container without calls."""


def percentile(values: Sequence[float], share: float) -> int:
    """The value that ``share`` (0 to 1) of all are not above; 0 when there are none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else 0


def summary_of(terminal: Terminal) -> dict[str, Any]:
    """What a terminal said at the end."""
    return next((e for e in reversed(terminal.events) if e["event"] == "summary"), {})


def shown_by_a_browser(stack: BenchStack, args: argparse.Namespace, page: str, room: str) -> list[float]:
    """Milliseconds from each INVITE until a browser in ``room`` shows the caller; of those that it did."""
    running = RunningStack(NAME, stack.file, ensure_test_image(ensure_engine(tell), tell))
    workdir = stack.file.parent / "browser"
    prefix = running.client_prefix("browser", running.client_address(0), workdir)
    found = []
    with BrowserParticipant(prefix, page, "Ada", workdir, seconds=30 + 2 * _JOIN_S * args.joins) as ada:
        for number in range(args.joins):
            words = ["--json", "--preencoded", "--kbps", str(args.kbps), "--size", args.size]
            words += ["--name", f"Caller {number}", "--seconds", str(_JOIN_S)]
            joins = Terminal(stack.terminal(1, stack.measured, room, *words))
            joins.wait(_ANSWER_TIMEOUT_S)
            invited_at = summary_of(joins).get("invited_at")
            seen = [ada.of(report, f"Caller {number}") for report in ada.seen]
            shown = [one["video"].get("first_frame_at") for one in seen if one and one["video"]]
            if invited_at and any(shown):
                found.append(1000 * (next(at for at in shown if at) - invited_at))
    return found


def measure(
    stack: BenchStack, args: argparse.Namespace, platform: str, loss: int, page: str, bridge: str = "-"
) -> JoinRow:
    """Join again and again, then stay; then join in front of a browser, which finds rooms at ``page``."""
    room, gateway = f"bench{loss}", stack.measured
    base = ["--json", "--preencoded", "--beep", "--kbps", str(args.kbps), "--size", args.size]
    cgroup = gateway.cgroup()
    idle, processes = cpu_share(cgroup, 4), len(cgroup.pids())
    stays = Terminal(stack.terminal(0, gateway, room, *base, "--no-decode", "--name", "Stays"))
    summaries = []
    try:
        wait_until(lambda: stays.ended or len(stays.seconds) >= 2, _ANSWER_TIMEOUT_S)
        for number in range(args.joins):
            words = [*base, "--name", f"Joins {number}", "--seconds", str(_JOIN_S)]
            joins = Terminal(stack.terminal(1, gateway, room, *words))
            joins.wait(_ANSWER_TIMEOUT_S)
            summaries.append(summary_of(joins))
        other = Terminal(stack.terminal(1, gateway, room, *base, "--name", "Stays, too"))
        wait_until(lambda: other.ended or len(other.seconds) >= _SETTLE_S, _ANSWER_TIMEOUT_S)
        before = usages(cgroup.pids())
        share = cpu_share(cgroup, args.seconds)
        after = usages(cgroup.pids())
        memory = cgroup.working_set()
        other.hang_up()
        other.wait()
        gap = int(summary_of(other).get("longest_video_gap_ms", 0))
    finally:
        stays.hang_up()
        stays.wait()
    wait_until(lambda: len(cgroup.pids()) <= processes, _ANSWER_TIMEOUT_S)
    freed = memory - cgroup.working_set()
    workers = busy_ones(before, after, args.seconds)[-2:]
    browser = shown_by_a_browser(stack, args, f"{page}/{room}b", f"{room}b")
    good = [s for s in summaries if s.get("verdict") == "ok"]

    def times(key: str) -> list[float]:
        return [float(s[key]) for s in good if s.get(key) is not None]

    return JoinRow(
        platform, loss, bridge, args.kbps, args.joins, args.joins - len(good),
        percentile(times("connected_ms"), 0.5), percentile(times("connected_ms"), 0.95),
        percentile(times("first_frame_ms"), 0.5), percentile(times("first_frame_ms"), 0.95),
        percentile(times("first_sound_ms"), 0.5), percentile(times("first_sound_ms"), 0.95),
        percentile(browser, 0.5), percentile(browser, 0.95),
        round(100 * (share - idle) / 2, 1), round(freed / _MB / 2, 1),
        round(statistics.mean(u.pss for u in workers) / _MB, 1) if workers else 0.0,
        gap, int(args.seconds), round(100 * idle, 1),
    )  # fmt: skip


@contextlib.contextmanager
def packet_loss(percent: int, port: int) -> Iterator[None]:
    """Lose so many of a hundred packets, at random, from and to the bridge's port on this machine."""
    if percent == 0:
        yield
        return
    lose = f"numgen random mod 100 < {percent} drop"
    rules = f"""table ip {_NFT_TABLE} {{
        chain arriving {{ type filter hook input priority -300; udp dport {port} {lose}; }}
        chain leaving {{ type filter hook output priority -300; udp sport {port} {lose}; }}
    }}"""
    done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=False)
    if done.returncode:
        raise NoStack("nft makes no packet loss here")
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", _NFT_TABLE], check=False)


def table(rows: Sequence[JoinRow]) -> str:
    """The rows as text."""
    lines = [
        "platform  loss  bridge                 kb/s  joins failed | answer p50/p95 | picture p50/p95 |"
        " sound p50/p95 | at browser p50/p95 |  CPU  memory | longest gap | idle"
    ]
    lines += [
        f"{r.platform:8}  {r.loss_percent:2} %  {r.bridge:22} {r.kbps:4}  {r.joins:5} {r.failed:6} |"
        f" {r.answer_p50:5} {r.answer_p95:5} ms | {r.picture_p50:6} {r.picture_p95:5} ms |"
        f" {r.sound_p50:4} {r.sound_p95:5} ms | {r.browser_p50:9} {r.browser_p95:5} ms |"
        f" {r.cpu_percent_per_call:4.1f} % {r.memory_mb_per_call:4.0f} MB |"
        f" {r.longest_gap_ms:4} ms in {r.seconds} s | {r.idle_percent:.1f} %"
        for r in rows
    ]
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jitsi_call", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--joins", type=int, default=20)
    parser.add_argument("--loss", type=int, nargs="+", default=[0, 3], help="percent of the bridge's packets")
    parser.add_argument(
        "--bridge",
        nargs="+",
        default=["rtx+data_channel"],
        help="what is negotiated with the bridge, several times: rtx, tcc, data_channel joined by +, or none",
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long both calls stay")
    parser.add_argument("--kbps", type=int, default=1500, help="of each picture (30 a second)")
    parser.add_argument("--size", default="1280x720", help="of each picture; 640x360 is the other usual one")
    parser.add_argument("--json", action="store_true")
    args: argparse.Namespace = parser.parse_args(argv)
    if args.joins < 1 or args.seconds < 2 or not all(0 <= loss <= 50 for loss in args.loss):
        parser.error("one join, two seconds and 0 to 50 percent, at least")
    for bridge in args.bridge:
        if not set(bridge.split("+")) <= {*_BRIDGE, "none"}:
            parser.error(f"--bridge: '{bridge}' has something else than {', '.join(_BRIDGE)} or none")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 2: it can't be measured here."""
    args = _arguments(argv)
    directory = ROOT / "artifacts" / "bench" / "jitsi"
    rows: list[JoinRow] = []
    try:
        with running_backend(find_installation(os.environ), "bench-jvb", directory / "backend") as jitsi:
            ca = jitsi.ca.relative_to(directory)
            for bridge in args.bridge:
                given = {name: name in bridge.split("+") for name in _BRIDGE}
                conference = {"platform": "jitsi", "url": jitsi.url, "ca_file": str(ca), "bridge": given}
                with bench_stack(directory, json.dumps({"conference": conference})[1:-1] + "\n") as stack:
                    for loss in args.loss:
                        with packet_loss(loss, MEDIA_PORT):
                            rows.append(measure(stack, args, "jitsi", loss, jitsi.url, bridge))
        with bench_stack(directory) as stack:
            rows.append(measure(stack, args, "janus", 0, stack.page))
    except (NoJitsi, NoStack, NoCgroup, OSError) as e:
        print(f"jitsi_call: {e}", file=sys.stderr)
        return 2
    print(json.dumps([asdict(row) for row in rows], indent=2) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
