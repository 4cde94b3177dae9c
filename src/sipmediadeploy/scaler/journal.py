"""The audit trail: what scalers saw, decided and did, a log line each, in a ring that outlives the process.

Scalers copy each other's entries, so that the trail outlives its writers, too.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import structlog
from pydantic import ValidationError

from sipmediadeploy.protocol.scaler import Entry, Trail
from sipmediadeploy.scaler.model import Action, Kind

PATH = Path("/var/lib/smd/scaler/events.jsonl")
_KEPT = 1000
_log = structlog.get_logger("scaler")


class Journal:
    """Writes and copies entries. A file that can't be written is reported once and never stops the scaler."""

    def __init__(self, who: str, path: Path = PATH) -> None:
        """Continue the journal at ``path``; new entries are ``who``'s."""
        self._who = who
        self._path = path
        self._writable = True
        self._boot = secrets.token_hex(4)
        self._written = 0
        self._entries = _read(path)
        self._known = {entry.id for entry in self._entries}
        self._first = 1
        """The position of the first entry that is kept."""

    @property
    def entries(self) -> list[Entry]:
        """All that are kept, in the order in which they came."""
        return list(self._entries)

    def action(self, phase: str, action: Action, error: str) -> None:
        """An action was 'started', 'done', 'failed' or 'dropped'."""
        fields: dict[str, object] = {"replica": action.name, "reason": action.reason}
        if error:
            fields["error"] = error
        if action.kind is Kind.SET_GATEWAYS and phase != "failed":
            _log.debug(f"{action.kind} {phase}", **fields)  # Once a second while calls come and go.
            return
        self.event(f"{action.kind} {phase}", **fields)

    def event(self, what: str, **fields: object) -> None:
        """Anything else worth knowing later."""
        _log.info(what, **fields)
        self._written += 1
        text = json.loads(json.dumps(fields, default=str))
        entry = Entry(
            id=f"{self._who}-{self._boot}-{self._written}",
            at=round(time.time(), 3),
            who=self._who,
            event=what,
            fields=text,
        )
        self._keep([entry])

    def copy(self, entries: Iterable[Entry]) -> None:
        """Take another scaler's entries; those known already are left out."""
        self._keep([entry for entry in entries if entry.id not in self._known])

    def after(self, boot: str, position: int) -> Trail:
        """The entries after ``position``, or all, when it is one of another ``boot``."""
        start = max(position - self._first + 1, 0) if boot == self._boot else 0
        last = self._first + len(self._entries) - 1
        return Trail(boot=self._boot, position=last, entries=tuple(self._entries[start:]))

    def _keep(self, new: list[Entry]) -> None:
        if not new:
            return
        self._entries += new
        self._known |= {entry.id for entry in new}
        shorten = len(self._entries) > 2 * _KEPT
        if shorten:
            self._first += len(self._entries) - _KEPT
            self._entries = self._entries[-_KEPT:]
            self._known = {entry.id for entry in self._entries}
        if not self._writable:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if shorten:
                newer = self._path.with_suffix(".new")
                newer.write_text(_lines(self._entries), encoding="utf-8")
                newer.replace(self._path)
                return
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_lines(new))
        except OSError as e:
            self._writable = False
            _log.warning("journal can't be written", path=str(self._path), error=str(e))


def _lines(entries: Iterable[Entry]) -> str:
    return "".join(f"{entry.model_dump_json()}\n" for entry in entries)


def _read(path: Path) -> list[Entry]:
    """What can be read of a journal; a line that was cut short by a crash is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines[-_KEPT:]:
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError:
            continue
    return found
