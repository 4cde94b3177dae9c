"""``smd events``, ``watch``, and the commands that the leading scaler carries out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.cli.stackrun import RunningStack, reached
from sipmediadeploy.cli.view import console, problems, table
from sipmediadeploy.protocol.scaler import Command, Entry, ScalerAway, ScalerClient
from sipmediadeploy.protocol.seen import StackNow

_WATCH_S = 1.0
_WATCHED_LINES = 15


def command(place: Place, what: Command, target: str, api: str | None = None) -> None:
    """Have the leader carry ``what`` out, and say what became of it; ``api`` as in ``reached``."""
    with reached(place, api, f"smd {what}") as running:
        print(asyncio.run(running.ask(lambda client, address: client.command(address, what, target))))


def events(place: Place, lines: int, as_json: bool, api: str | None = None) -> None:
    """Print the last ``lines`` entries of the audit trail."""
    with reached(place, api, "the events") as running:
        entries = asyncio.run(running.ask(lambda client, address: client.newest(address, lines)))
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2))
        return
    for entry in entries:
        print(_line(entry))


def watch(place: Place, api: str | None = None) -> None:
    """Show replicas, problems, what is being done and the newest of the audit trail until interrupted.

    A terminal that can't move its cursor, a pipe and a file get it anew each time, one below the other.
    """
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    with reached(place, api, "smd watch") as running:
        out = console()
        in_place = out.is_terminal and not out.is_dumb_terminal
        seen: RenderableType | None = None
        with Live(console=out, refresh_per_second=4) if in_place else contextlib.nullcontext() as live:
            while True:
                try:
                    now = asyncio.run(running.look())
                    seen, said = table(now.replicas), _said(running, now)
                except CommandError as e:
                    if seen is None:
                        raise
                    said = _Said([f"! {e}"], [])  # what was seen before stays; another scaler answers soon
                # What does not fit is cut off at the end, where the newest is.
                room = out.height - len(out.render_lines(seen)) - len(said.now) - 2
                newest = said.trail[-max(min(room, _WATCHED_LINES), 1) :] if in_place else said.trail
                shown = Group(seen, Text("\n".join([*said.now, "", *newest]), no_wrap=True))
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


def _said(running: RunningStack, now: StackNow) -> _Said:
    wrong = [f"! {problem}" for problem in problems(running.stack, now)]
    try:
        doing, entries = asyncio.run(running.ask(_doing_and_entries))
    except CommandError as e:
        return _Said([*wrong, str(e)], [])
    return _Said([*wrong, *doing], [_line(entry) for entry in entries])


async def _doing_and_entries(client: ScalerClient, address: str) -> tuple[list[str], tuple[Entry, ...]]:
    view = await client.view(address)
    if not view.leading and view.leader is not None:
        raise ScalerAway(f"{view.leader} leads")
    paused = ["~ paused: the scalers watch only"] if view.paused else []
    return [*paused, *(f"> {doing}" for doing in view.underway)], await client.newest(address, _WATCHED_LINES)


def _line(entry: Entry) -> str:
    fields = dict(entry.fields)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    about = str(fields.pop("replica", "") or fields.pop("problem", ""))
    reason, error = fields.pop("reason", ""), fields.pop("error", "")
    more = [str(reason), f"({error})" if error else "", *(f"{key}={value}" for key, value in fields.items())]
    text = " ".join(part for part in (entry.event, about) if part)
    return f"{at}  {entry.who}  {text}{': ' if any(more) else ''}{' '.join(part for part in more if part)}"
