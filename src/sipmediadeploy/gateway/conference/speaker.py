"""Who is shown: the choice of the active speaker. Pure; time is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

HOLD_S = 1.5
"""The shortest time that a picture stays, unless its participant leaves."""

INTERRUPT_S = 2.0
"""How long somebody must speak to be shown while the one shown speaks too: an "aha" changes nothing."""


@dataclass(frozen=True, slots=True)
class Floor:
    """Who speaks and who is shown. Participants are named by their feed ids; times are monotonic seconds."""

    speaking: dict[str, float] = field(default_factory=dict)
    """Participant -> since when."""
    shown: str | None = None
    shown_since: float = 0.0


def heard(floor: Floor, participant: str, speaking: bool, now: float) -> Floor:
    """The floor after ``participant`` started or stopped speaking."""
    others = {who: since for who, since in floor.speaking.items() if who != participant}
    if speaking:
        others[participant] = floor.speaking.get(participant, now)
    return replace(floor, speaking=others)


def choose(floor: Floor, candidates: Sequence[str], now: float) -> tuple[Floor, float | None]:
    """Choose who is shown among ``candidates`` (those with a usable picture, longest present first).

    Nobody's silence takes a picture away: it goes only to make room for another speaker, or with its
    participant. Two who speak at the same time do not alternate: the one shown keeps the picture until
    somebody starts later than he was chosen and goes on for :data:`INTERRUPT_S`.

    Returns:
        The new floor, and in how many seconds the choice may become another without any event (None: never).
    """
    if not candidates:
        return replace(floor, shown=None), None
    speakers = {who: since for who, since in floor.speaking.items() if who in candidates}
    if floor.shown not in candidates:
        first = min(speakers, key=lambda who: speakers[who]) if speakers else candidates[0]
        return replace(floor, shown=first, shown_since=now), None
    rivals = {who: since for who, since in speakers.items() if who != floor.shown}
    if floor.shown in speakers:
        rivals = {who: since + INTERRUPT_S for who, since in rivals.items() if since >= floor.shown_since}
    if not rivals:
        return floor, None
    rival = min(rivals, key=lambda who: rivals[who])
    due = max(rivals[rival], floor.shown_since + HOLD_S)
    if now < due:
        return floor, due - now
    return replace(floor, shown=rival, shown_since=now), None
