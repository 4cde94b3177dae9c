"""What a call costs a gateway: CPU time, memory, added delay; beside a plain RTP pipeline in the same run.

    python -m benchmarks.call_cost --to 172.30.0.10 --gateway smd-demo-gateway-1 --gateway smd-demo-gateway-2

Calls are put two to a room, so that each sends and receives a picture; one call is alone in its room, and
three share the last one when their number is odd. All senders encode before they call. The second terminal of
the first room decodes and measures the delay: each generated frame carries the time at which it was drawn,
the sound beeps at each full second. CPU is read from the gateway containers' cgroups; what they use without
calls is taken off.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.measure import Cgroup, NoCgroup, cgroup_of, usages
from benchmarks.terminals import Delays, PlainPair, Terminal, delays_of, wait_until

_ANSWER_TIMEOUT_S = 30
_SETTLE_S = 3
_BUSY_SHARE = 0.005
_MB = 1e6


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


class Accounts:
    """The gateway containers' accounts, together."""

    def __init__(self, cgroups: Sequence[Cgroup]) -> None:
        self._cgroups = cgroups

    def cpu_seconds(self) -> float:
        return sum(cgroup.cpu_seconds() for cgroup in self._cgroups)

    def working_set(self) -> int:
        return sum(cgroup.working_set() for cgroup in self._cgroups)

    def pids(self) -> list[int]:
        return [pid for cgroup in self._cgroups for pid in cgroup.pids()]

    def cpu_share(self, seconds: float) -> float:
        """Cores used over a span of time."""
        before, began = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - began)


def gateway_row(args: argparse.Namespace, accounts: Accounts, media: str, calls: int) -> Row:
    """Place the calls, measure, hang up."""
    idle, memory = accounts.cpu_share(args.idle), accounts.working_set()
    terminals = []
    for index in range(calls):
        terminals.append(Terminal(_command(args, media, index, calls)))
        time.sleep(0.3)
    try:
        talking = wait_until(
            lambda: all(t.ended or len(t.seconds) >= _SETTLE_S for t in terminals), _ANSWER_TIMEOUT_S
        )
        dead = [t for t in terminals if t.ended]
        if dead or not talking:
            return Row("gateway", media, calls, 0, 0, 0, problem=_why(dead[0] if dead else terminals[0]))
        before = {usage.pid: usage for usage in usages(accounts.pids())}
        share = accounts.cpu_share(args.seconds)
        after = usages(accounts.pids())
        grown = accounts.working_set() - memory
    finally:
        for terminal in terminals:
            terminal.hang_up()
        complete = [terminal.wait() for terminal in terminals]
    threshold = _BUSY_SHARE * args.seconds
    busy = [u for u in after if u.pid in before and u.cpu_seconds - before[u.pid].cpu_seconds > threshold]
    watcher = terminals[min(1, calls - 1)]
    delays = delays_of(watcher.seconds[_SETTLE_S:])
    last = [terminal.seconds[-1] for terminal in terminals]
    silent = 0 if calls == 1 else complete.count(False)
    return Row(
        "gateway",
        media,
        calls,
        round(100 * (share - idle) / calls, 2),
        round(grown / _MB / calls, 1),
        round(sum(usage.pss for usage in busy) / _MB / len(busy), 1) if busy else 0.0,
        delays.picture_ms,
        delays.sound_ms,
        lost_packets=sum(second[kind]["lost"] for second in last for kind in ("audio_in", "video_in")),
        problem=f"{silent} calls got no sound or no picture" if silent else "",
    )


def plain_row(media: str, seconds: float) -> Row:
    """The same media through the plain pipeline: one call."""
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
        round(after.pss / _MB, 1),
        round(after.pss / _MB, 1),
        delays.picture_ms,
        delays.sound_ms,
        lost_packets=sum(reports[-1][kind]["lost"] for kind in ("audio_in", "video_in")),
    )


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


def _command(args: argparse.Namespace, media: str, index: int, calls: int) -> list[str]:
    room = min(index // 2, max(0, calls // 2 - 1))
    command = [*shlex.split(args.client), f"{args.room}{room}", "--to", args.to, "--json"]
    command += ["--preencoded", "--beep", "--name", f"Benchmark {index}", "--codec", args.codec]
    if media == "audio":
        command.append("--audio-only")
    return command if index == min(1, calls - 1) else [*command, "--no-decode"]


def _why(terminal: Terminal) -> str:
    errors = [event["message"] for event in terminal.events if event["event"] == "error"]
    output = [line.strip() for line in terminal.other_output if line.strip()]
    return str((errors or output or ["no answer"])[-1])


def _containers(names: Sequence[str]) -> list[Cgroup]:
    """The cgroups of containers by name, or of processes by number."""
    found = []
    for name in names:
        pid = name
        if not name.isdigit():
            inspect = ["docker", "inspect", "--format", "{{.State.Pid}}", name]
            done = subprocess.run(inspect, capture_output=True, text=True, check=False)
            if done.returncode or done.stdout.strip() == "0":
                raise NoCgroup(f"container {name} is not running: {done.stderr.strip()}")
            pid = done.stdout.strip()
        found.append(cgroup_of(int(pid)))
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="call_cost", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--to", metavar="HOST[:PORT]", help="where to call; without it only the plain pipeline runs"
    )
    parser.add_argument("--gateway", action="append", default=[], metavar="CONTAINER", help="may be repeated")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 5, 8])
    parser.add_argument("--media", choices=("audio", "video"), nargs="+", default=["audio", "video"])
    parser.add_argument("--codec", choices=("PCMA", "PCMU", "opus"), default="PCMA")
    parser.add_argument("--seconds", type=float, default=15, help="length of each measurement")
    parser.add_argument(
        "--idle", type=float, default=5, help="how long to measure the gateways without calls"
    )
    parser.add_argument("--room", default="bench", help="rooms are this with a number")
    parser.add_argument("--no-plain", action="store_true", help="leave the plain pipeline out")
    client = f"{shlex.quote(sys.executable)} -m sipmediadeploy.gateway.testcall"
    parser.add_argument(
        "--client", default=client, help="command of the test terminal, such as docker run ..."
    )
    parser.add_argument("--json", action="store_true")
    args: argparse.Namespace = parser.parse_args(argv)
    if args.to and not args.gateway:
        parser.error("--to needs --gateway: the containers that are measured")
    if min(args.calls) < 1 or args.seconds < 2:
        parser.error("at least one call and two seconds")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 measured, 1 something was not, 2 usage."""
    args = _arguments(argv)
    rows: list[Row] = []
    try:
        accounts = Accounts(_containers(args.gateway))
    except (NoCgroup, OSError) as error:
        print(f"call_cost: {error}", file=sys.stderr)
        return 2
    for media in args.media:
        plain = Delays(None, None)
        if not args.no_plain:
            row = plain_row(media, args.seconds)
            plain = Delays(row.picture_delay_ms, row.sound_delay_ms)
            rows.append(row)
        for calls in args.calls if args.to else []:
            rows.append(with_added(gateway_row(args, accounts, media, calls), plain))
    values: list[dict[str, Any]] = [asdict(row) for row in rows]
    print(json.dumps(values, indent=2) if args.json else table(rows))
    return 1 if any(row.problem for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
