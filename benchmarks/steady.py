"""Whether a service address stays where it is while nothing is broken: moves of an hour on a bad day.

    python -m benchmarks.steady [--seconds 3600] [--busy 2] [--loss 40] [--freeze 0.2] [--json]

A default stack runs on a machine with a busy loop on each core, loses that many of 100 adverts (nftables in
each replica's own network namespace), and its active replicas are frozen for a moment every few seconds. Each
time an address comes to a replica is counted, as the replica's kernel told its agent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import cgroup_of
from benchmarks.running import NoStack, first_pid, idle_stack, smd_json, tell
from sipmediadeploy.protocol.replica import AGENT_PORT

ROLES = ("kamailio", "coturn")
FREEZE_EVERY_S = 5.0
_TAKEN = re.compile(r"^smd_address_taken_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One replica: how often the service address came to it meanwhile, and whether it holds it at the end."""

    replica: str
    taken: int
    holds: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rows. 1: an address moved. 2: it can't be measured here."""
    parser = argparse.ArgumentParser(prog="steady", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--busy", type=int, default=2, help="busy loops")
    parser.add_argument("--loss", type=int, default=40, help="of 100 adverts")
    parser.add_argument("--freeze", type=float, default=0.2, help="seconds, of each active replica in turn")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        with idle_stack(Path("artifacts/bench/steady")) as file:
            rows = _measured(file, options)
    except (NoStack, OSError, subprocess.SubprocessError) as e:
        print(f"steady: {e}", file=sys.stderr)
        return 2
    moves = sum(row.taken for row in rows)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        for row in rows:
            print(f"{row.replica:24} took its address {row.taken} times{', holds it' if row.holds else ''}")
        print(f"{moves} moves in {options.seconds:.0f} s")
    return 1 if moves else 0


def _measured(file: Path, options: argparse.Namespace) -> list[Row]:
    replicas = [one for one in smd_json(file, "status", "--json")["replicas"] if one["role"] in ROLES]
    tokens = {one["name"]: _token(file, one["name"]) for one in replicas}
    before = {one["name"]: _taken(one, tokens) for one in replicas}
    with contextlib.ExitStack() as stack:
        for one in replicas:
            stack.enter_context(_lossy(str(one["id"]), options.loss))
        for _ in range(options.busy):
            stack.enter_context(_busy())
        end = time.monotonic() + options.seconds
        tell(f"measuring for {options.seconds:.0f} s")
        frozen = 0.0
        while time.monotonic() < end:
            for one in replicas:
                if one["active"] and options.freeze:
                    frozen = max(frozen, _freeze(str(one["id"]), options.freeze))
            time.sleep(min(FREEZE_EVERY_S, max(0.0, end - time.monotonic())))
        tell(f"the longest freeze took {frozen:.2f} s")
    after = {one["name"]: one for one in smd_json(file, "status", "--json")["replicas"]}
    return [
        Row(name, _taken(one, tokens) - before[name], bool(after.get(name, {}).get("active")))
        for name, one in ((str(one["name"]), one) for one in replicas)
    ]


def _token(file: Path, replica: str) -> str:
    return str(smd_json(file, "token", replica, parse=False))


def _taken(replica: dict[str, Any], tokens: dict[str, str]) -> int:
    request = urllib.request.Request(f"http://{replica['address']}:{AGENT_PORT}/metrics")
    request.add_header("Authorization", f"Bearer {tokens[replica['name']]}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        found = _TAKEN.search(answer.read().decode())
    if found is None:
        raise NoStack(f"{replica['name']} does not tell how often it took its address")
    return int(float(found[1]))


@contextlib.contextmanager
def _lossy(container: str, percent: int) -> Iterator[None]:
    rule = f"ip protocol vrrp numgen random mod 100 < {percent} drop"
    hook = "type filter hook input priority -300;"
    words = ["nsenter", "-t", str(first_pid(container)), "-n", "nft"]
    table = f"table ip smd_lossy {{ chain input {{ {hook} {rule}; }}; }}"
    subprocess.run([*words, table], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*words, "delete table ip smd_lossy"], check=False, capture_output=True)


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def _freeze(container: str, seconds: float) -> float:
    """Stop all of its processes for a moment, by signals: ``docker unpause`` comes late on a busy machine.

    Returns for how long, in seconds.
    """
    pids = cgroup_of(first_pid(container)).pids()
    began = time.monotonic()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number is signal.SIGSTOP:
            time.sleep(seconds)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
