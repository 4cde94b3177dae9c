"""``smd events``, ``watch``, and the commands that the leading scaler carries out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import Running, engine_errors, find_running
from sipmediadeploy.cli.view import console, problems, table
from sipmediadeploy.protocol.scaler import (
    Command,
    Entry,
    ScalerAway,
    ScalerClient,
    ScalerError,
    operator_token,
)
from sipmediadeploy.protocol.seen import StackNow
from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.providers.docker.engine import connect
from sipmediadeploy.stack import Role

_WATCH_S = 1.0
_WATCHED_LINES = 15
T = TypeVar("T")


def command(place: Place, what: Command, target: str) -> None:
    """Have the leader carry ``what`` out, and say what became of it."""

    async def ask(client: ScalerClient, address: str) -> str:
        return await client.command(address, what, target)

    with engine_errors(f"smd {what}"):
        running = find_running(place, connect())
        print(asyncio.run(_ask_a_scaler(running, ask)))


def events(place: Place, lines: int, as_json: bool) -> None:
    """Print the last ``lines`` entries of the audit trail."""
    with engine_errors("the events"):
        running = find_running(place, connect())
        entries = asyncio.run(_ask_a_scaler(running, _entries))[-lines:]
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    for entry in entries:
        print(_line(entry))


def watch(place: Place) -> None:
    """Show replicas, problems, what is being done and the newest of the audit trail until interrupted.

    A terminal that can't move its cursor, a pipe and a file get it anew each time, one below the other.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with engine_errors("smd watch"):
        running = find_running(place, connect())
        out = console()
        in_place = out.is_terminal and not out.is_dumb_terminal
        with Live(console=out, refresh_per_second=4) if in_place else contextlib.nullcontext() as live:
            while True:
                now = asyncio.run(running.look())
                replicas, said = table(now.replicas), _said(running, now)
                # What does not fit is cut off at the end, where the newest is.
                room = out.height - len(out.render_lines(replicas)) - len(said.now) - 2
                newest = said.trail[-max(min(room, _WATCHED_LINES), 1) :] if in_place else said.trail
                shown = Group(replicas, Text("\n".join([*said.now, "", *newest]), no_wrap=True))
                if live is None:
                    out.print(shown)
                else:
                    live.update(shown)
                time.sleep(_WATCH_S)


@dataclass(frozen=True, slots=True)
class _Said:
    """Lines for people: what is wrong and being done now, and the newest of the audit trail."""

    now: list[str]
    trail: list[str]


def _said(running: Running, now: StackNow) -> _Said:
    wrong = [f"! {problem}" for problem in problems(running.stack, now)]
    scalers = [one.record for one in now.replicas if one.record.role is Role.SCALER]
    try:
        doing, entries = asyncio.run(_ask_a_scaler(running, _doing_and_entries, scalers))
    except CommandError as e:
        return _Said([*wrong, str(e)], [])
    return _Said([*wrong, *doing], [_line(entry) for entry in entries[-_WATCHED_LINES:]])


async def _entries(client: ScalerClient, address: str) -> list[Entry]:
    entries = (await client.events(address)).entries
    return sorted(entries, key=lambda entry: entry.at)


async def _doing_and_entries(client: ScalerClient, address: str) -> tuple[list[str], list[Entry]]:
    view = await client.view(address)
    if not view.leading and view.leader is not None:
        raise ScalerAway(f"{view.leader} leads")
    paused = ["~ paused: the scalers watch only"] if view.paused else []
    return [*paused, *(f"> {doing}" for doing in view.underway)], await _entries(client, address)


async def _ask_a_scaler(
    running: Running,
    ask: Callable[[ScalerClient, str], Awaitable[T]],
    records: Sequence[ReplicaRecord] | None = None,
) -> T:
    """The answer of the first scaler that gives one; standbys send commands on to the leader."""
    if records is None:
        records = [r for r in await running.provider.inventory() if r.role is Role.SCALER]
    away = [f"stack {running.stack.name} has no scaler; 'smd up' makes one"]
    async with ScalerClient(operator_token(running.secrets.master)) as client:
        for record in records:
            try:
                return await ask(client, str(record.address))
            except ScalerAway as e:
                away.append(f"{record.name}: {e}")
            except ScalerError as e:
                raise CommandError(str(e)) from None
    raise CommandError("; ".join(away[1:] or away))


def _line(entry: Entry) -> str:
    fields = dict(entry.fields)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    about = str(fields.pop("replica", "") or fields.pop("problem", ""))
    reason, error = fields.pop("reason", ""), fields.pop("error", "")
    more = [str(reason), f"({error})" if error else "", *(f"{key}={value}" for key, value in fields.items())]
    text = " ".join(part for part in (entry.event, about) if part)
    return f"{at}  {entry.who}  {text}{': ' if any(more) else ''}{' '.join(part for part in more if part)}"
