"""The journal of events: a log line each, and a ring file that outlives the scaler's process."""

from __future__ import annotations

import json
import time
from pathlib import Path

import structlog

from sipmediadeploy.scaler.model import Action, Kind

PATH = Path("/var/lib/smd/events.jsonl")
_KEPT = 1000
_log = structlog.get_logger("scaler")


class Journal:
    """Writes events. A file that can't be written is reported once and never stops the scaler."""

    def __init__(self, path: Path = PATH) -> None:
        """Continue the journal at ``path``."""
        self._path = path
        self._writable = True
        self._lines = _count_lines(path)

    def action(self, phase: str, action: Action, error: str) -> None:
        """An action was 'started', 'done' or 'failed'."""
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
        if not self._writable:
            return
        line = json.dumps({"at": round(time.time(), 3), "event": what, **fields}, default=str)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self._lines += 1
            if self._lines > 2 * _KEPT:
                self._shorten()
        except OSError as e:
            self._writable = False
            _log.warning("journal can't be written", path=str(self._path), error=str(e))

    def _shorten(self) -> None:
        kept = self._path.read_text(encoding="utf-8").splitlines()[-_KEPT:]
        new = self._path.with_suffix(".new")
        new.write_text("\n".join(kept) + "\n", encoding="utf-8")
        new.replace(self._path)
        self._lines = len(kept)


def _count_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0
