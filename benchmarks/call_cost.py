"""What a call costs a gateway: CPU time, memory, added delay; beside a plain RTP pipeline in the same run.

    python -m benchmarks.call_cost [--calls 1 5 8] [--media audio video] [--json]

It brings up a stack of its own and takes it down. Calls go straight to one gateway, two to a room, so that
each sends and receives sound and picture; the far end of a call without a partner is on the other gateway,
which is not measured. All senders encode before they call. The first terminal decodes and measures the delay
from its partner, through both calls: each generated frame carries the time at which it was drawn, the sound
beeps at each full second. CPU is read from the gateway container's cgroup; what it uses without calls is
taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Cgroup, NoCgroup, busy_ones, usages
from benchmarks.rows import Delays, Row, delays_of, table, with_added
from benchmarks.running import CALLS, ROOT, BenchStack, NoStack, bench_stack
from benchmarks.terminals import Terminal, wait_until

_ANSWER_TIMEOUT_S = 60
_SETTLE_S = 6
"""The workers that replace those taken have started by then."""
_MB = 1e6


def cpu_share(cgroup: Cgroup, seconds: float) -> float:
    """Cores used over a span of time."""
    before, began = cgroup.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (cgroup.cpu_seconds() - before) / (time.monotonic() - began)


def gateway_row(stack: BenchStack, args: argparse.Namespace, media: str, calls: int) -> Row:
    """Place the calls, measure, hang up."""
    gateway = stack.measured.cgroup()
    idle, memory = cpu_share(gateway, args.idle), gateway.working_set()
    terminals: list[Terminal] = []
    try:
        for pair in batched(commands(stack, args, media, calls)):
            terminals += [Terminal(command) for command in pair]
            _wait_for_seconds(terminals, 1)
        talking = _wait_for_seconds(terminals, _SETTLE_S)
        dead = [t for t in terminals if t.ended]
        if dead or not talking:
            return Row("gateway", media, calls, 0, 0, 0, problem=_why(dead[0] if dead else terminals[0]))
        before = usages(gateway.pids())
        share = cpu_share(gateway, args.seconds)
        after = usages(gateway.pids())
        grown = gateway.working_set() - memory
    finally:
        for terminal in terminals:
            terminal.hang_up()
        complete = [terminal.wait() for terminal in terminals]
    busy = busy_ones(before, after, args.seconds)
    delays = delays_of(terminals[0].seconds[_SETTLE_S:])
    last = [terminal.seconds[-1] for terminal in terminals if terminal.seconds]
    silent = complete.count(False)
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


def commands(stack: BenchStack, args: argparse.Namespace, media: str, calls: int) -> list[list[str]]:
    """The terminals of one measurement: an even number, of which ``calls`` are on the measured gateway."""
    found = []
    for index in range(calls + calls % 2):
        words = ["--json", "--preencoded", "--beep", "--name", f"Benchmark {index}", "--codec", args.codec]
        words += ["--kbps", str(args.kbps)]
        words += ["--audio-only"] if media == "audio" else []
        words += ["--no-decode"] if index else []
        gateway = stack.measured if index < calls else stack.other
        found.append(stack.terminal(index, gateway, f"bench-{media}-{calls}-{index // 2}", *words))
    return found


def _wait_for_seconds(terminals: list[Terminal], seconds: int) -> bool:
    """Until each has talked for so long or has ended."""
    return wait_until(lambda: all(t.ended or len(t.seconds) >= seconds for t in terminals), _ANSWER_TIMEOUT_S)


def batched(words: list[list[str]]) -> list[list[list[str]]]:
    """Two at a time: a gateway keeps few workers ready, and eight calls in one moment would meet a 503."""
    return [words[at : at + 2] for at in range(0, len(words), 2)]


def plain_row(stack: BenchStack, media: str, seconds: float) -> Row:
    """The plain pipeline with the same libraries on the same machine."""
    words = stack.plain(media, f"{seconds:g}")
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        return Row("plain pipeline", media, 1, 0, 0, 0, problem=(done.stderr.strip() or "?").splitlines()[-1])
    return Row(**json.loads(done.stdout))


def _why(terminal: Terminal) -> str:
    errors = [event["message"] for event in terminal.events if event["event"] == "error"]
    output = [line.strip() for line in terminal.other_output if line.strip()]
    return str((errors or output or ["no answer"])[-1])


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="call_cost", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 5, 8])
    parser.add_argument("--media", choices=("audio", "video"), nargs="+", default=["audio", "video"])
    parser.add_argument("--codec", choices=("PCMA", "PCMU", "opus"), default="PCMA")
    parser.add_argument("--kbps", type=int, default=1500, help="of each picture (1280x720, 30 a second)")
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement")
    parser.add_argument("--idle", type=float, default=4, help="how long to measure without calls")
    parser.add_argument("--json", action="store_true")
    args: argparse.Namespace = parser.parse_args(argv)
    if not all(1 <= calls <= CALLS for calls in args.calls) or args.seconds < 2:
        parser.error(f"1 to {CALLS} calls, and two seconds at least")
    return args


def measure(stack: BenchStack, args: argparse.Namespace) -> list[Row]:
    """All rows."""
    rows = []
    for media in args.media:
        plain = plain_row(stack, media, args.seconds)
        rows.append(plain)
        for calls in args.calls:
            print(f"call_cost: {media}, {calls} calls ...", file=sys.stderr)
            try:
                row = gateway_row(stack, args, media, calls)
            except OSError as error:  # the other measurements stay of use
                row = Row("gateway", media, calls, 0, 0, 0, problem=f"the gateway has gone: {error}")
            rows.append(with_added(row, Delays(plain.picture_delay_ms, plain.sound_delay_ms)))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 measured, 1 something was not, 2 there is no stack to measure."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stack is taken down then, too
    try:
        with bench_stack(ROOT / "artifacts" / "bench") as stack:
            rows = measure(stack, args)
    except (NoStack, NoCgroup, OSError) as error:
        print(f"call_cost: {error}", file=sys.stderr)
        return 2
    values: list[dict[str, Any]] = [asdict(row) for row in rows]
    print(json.dumps(values, indent=2) if args.json else table(rows))
    print(f"Load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.", file=sys.stderr)
    return 1 if any(row.problem for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
