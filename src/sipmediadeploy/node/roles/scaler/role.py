"""The role scaler on one replica."""

from __future__ import annotations

import json
import time
from pathlib import Path

from sipmediadeploy.node.roles.base import RUN, Health, NoOrders, RenderedFile
from sipmediadeploy.protocol.replica import ReplicaDocument

ALIVE = RUN / "scaler.alive"
"""Written by the scaler at each step."""
FRESH_S = 10.0
"""The loop steps every second or two; one provider request may take several."""


USER = "smd"
"""The scaler's on servers; in containers it is root, for the engine's socket."""


class ScalerRole(NoOrders):
    """Hands the document to the scaler, whose loop must be fresh, and see the stack."""

    services = ("scaler",)
    patience_s = 0.0

    def __init__(self, document: ReplicaDocument, alive: Path = ALIVE) -> None:
        self._document = document
        self._alive = alive

    def render(self) -> dict[Path, RenderedFile]:
        """The document without the agent's token, readable by the scaler's user."""
        document = self._document.model_copy(update={"agent_token": ""})
        return {RUN / "scaler" / "replica.yaml": RenderedFile(document.to_yaml(), USER)}

    async def check(self) -> Health:
        """Healthy means: the loop has made a step just now, and can read the inventory."""
        try:
            age = time.time() - self._alive.stat().st_mtime
        except OSError:
            return Health(False, "scaler: its loop has not made a step yet")
        if age > FRESH_S:
            return Health(False, f"scaler: its loop has made no step for {age:.0f} s")
        return self._told()

    def _told(self) -> Health:
        try:
            told = json.loads(self._alive.read_text(encoding="utf-8"))
            leads, leader, term = bool(told["leading"]), told["leader"], int(told["term"])
            blind = told.get("blind")
            paused = "; paused, it only watches" if told["paused"] else ""
        except (OSError, ValueError, KeyError, TypeError):
            return Health(True, "its loop is running")
        if blind:
            return Health(False, f"scaler: {blind}", active=leads)
        if leads:
            return Health(True, f"leads, term {term}{paused}", active=True)
        return Health(True, f"stands by; {leader or 'nobody'} leads", active=False)
