"""What a replica's agent must not forget over a restart: drain, retirement, highest term, gateway list.

Kept as JSON in one file, replaced atomically. When it can't be written (disk full) the agent goes on with
what it has in memory; only retiring insists on the disk, because it is a promise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sipmediadeploy.protocol.agent import Gateway, Gateways

PATH = Path("/var/lib/smd/agent.json")

Drainer = Literal["scaler", "operator"]


class StateError(Exception):
    """The state can't be read or kept. The message says why and what to do."""


class AgentState(BaseModel):
    """The agent's memory."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    term: int = 0
    """The highest scaler's term seen."""
    drained_by: Drainer | None = None
    retired: bool = False
    gateways: Gateways = Gateways(term=0, gateways=())
    """The list in use; Kamailio goes on with it when there is no scaler."""


def load(path: Path = PATH) -> AgentState:
    """The state kept at ``path``; a fresh one when there is none.

    Raises:
        StateError: there is one that can't be read. Forgetting a retirement would be worse than stopping.
    """
    try:
        return AgentState.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return AgentState()
    except (OSError, ValidationError, UnicodeDecodeError) as e:
        raise StateError(
            f"{path}: the agent's state can't be read ({type(e).__name__}); replace this replica"
        ) from e


def save(state: AgentState, path: Path = PATH) -> None:
    """Keep ``state`` at ``path``; a crash at any moment leaves the old or the new one.

    Raises:
        StateError: it could not be written; the old one is still there.
    """
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as file:
            file.write(state.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as e:
        new.unlink(missing_ok=True)
        raise StateError(f"{path} can't be written: {e.strerror}; free some space there") from None


class OlderTerm(Exception):
    """An order of a scaler that is no longer the leader. The message says which term is the newest seen."""


class NotYours(Exception):
    """An order that would undo what only another may undo."""


def with_term(state: AgentState, term: int) -> AgentState:
    """The state after an order with ``term`` was seen. Pure.

    Raises:
        OlderTerm: a newer term has been seen.
    """
    if term < state.term:
        raise OlderTerm(f"term {term} is older than {state.term}, the newest seen here")
    return state.model_copy(update={"term": term})


def with_given(state: AgentState, gateways: tuple[Gateway, ...]) -> AgentState:
    """The state with the gateways of the document, until a scaler has told of others. Pure."""
    if state.term > 0 or not gateways:
        return state
    return state.model_copy(update={"gateways": Gateways(term=0, gateways=gateways)})


def drained(state: AgentState, by: Drainer) -> AgentState:
    """The state after a drain; an operator's is not replaced by a scaler's. Pure."""
    if state.drained_by == "operator":
        return state
    return state.model_copy(update={"drained_by": by})


def undrained(state: AgentState, by: Drainer) -> AgentState:
    """The state after an undrain. Pure.

    Raises:
        NotYours: it is retired, or drained by an operator and ``by`` is not one.
    """
    if state.retired:
        raise NotYours("this replica is retired: it never takes a call again")
    if state.drained_by == "operator" and by != "operator":
        raise NotYours("an operator drained this replica, and only an operator undrains it")
    return state.model_copy(update={"drained_by": None})


def retired(state: AgentState) -> AgentState:
    """The state after a retirement, which is for good. Pure.

    Raises:
        NotYours: it has not been drained before.
    """
    if state.drained_by is None and not state.retired:
        raise NotYours("drain this replica before it is retired")
    return state.model_copy(update={"retired": True})
