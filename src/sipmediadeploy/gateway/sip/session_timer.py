"""Session timers (RFC 4028): what is agreed, as values. The dialog runs the clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sipmediadeploy.gateway.sip.message import SipMessage, SipRequest

MIN_SE = 90
"""Seconds; the smallest interval that RFC 4028 (section 4) allows."""


class IntervalTooSmall(Exception):
    """The interval is below ours: 422 with Min-SE."""


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """An agreed session interval."""

    interval: int
    """Seconds."""
    we_refresh: bool
    by_update: bool = True
    """The other side takes UPDATE; else the refresh is a re-INVITE."""

    @property
    def delay(self) -> float:
        """When the refresher refreshes, or the other gives up (RFC 4028, section 10), in seconds."""
        if self.we_refresh:
            return self.interval / 2
        return self.interval - min(32.0, self.interval / 3)


def from_request(request: SipRequest) -> tuple[SessionTimer | None, tuple[tuple[str, str], ...]]:
    """What a request asks for, as the side that answers it, and the headers that its 2xx gets.

    Raises:
        IntervalTooSmall: the other side can be told so, and asks for too short an interval.
    """
    interval, refresher = session_expires(request)
    if interval is None:
        return None, ()
    supported = "timer" in tokens(request, "supported")
    if interval < MIN_SE and supported:
        raise IntervalTooSmall
    we_refresh = refresher == "uas" if refresher else not supported
    timer = SessionTimer(max(interval, MIN_SE), we_refresh or not supported, takes_update(request))
    role = "uas" if timer.we_refresh else "uac"
    required = (("Require", "timer"),) if supported else ()
    return timer, (("Session-Expires", f"{timer.interval};refresher={role}"), *required)


def after_refresh(timer: SessionTimer, response: SipMessage | None) -> SessionTimer:
    """The timer after our refresh: a 2xx may shorten the interval, a 422 asks for a longer one."""
    if response is None:
        return timer
    floor = (response.get_header("min-se") or "").partition(";")[0].strip()
    if floor.isascii() and floor.isdigit() and len(floor) <= 9:
        return replace(timer, interval=max(timer.interval, int(floor)))
    interval, _ = session_expires(response)
    return timer if interval is None else replace(timer, interval=max(interval, MIN_SE))


def session_expires(message: SipMessage) -> tuple[int | None, str]:
    """Interval in seconds (None: no usable header) and the refresher (``uac``, ``uas`` or empty)."""
    value, *params = (message.get_header("session-expires") or "").split(";")
    if not (value.strip().isascii() and value.strip().isdigit() and len(value.strip()) <= 9):
        return None, ""
    named = (param.strip().lower().partition("=") for param in params)
    roles = [role.strip() for name, _, role in named if name.strip() == "refresher"]
    return int(value), roles[0] if roles and roles[0] in ("uac", "uas") else ""


def tokens(message: SipMessage, name: str) -> frozenset[str]:
    """The tokens of a list header in lower case."""
    return frozenset(t.strip().lower() for v in message.get_header_values(name) for t in v.split(","))


def takes_update(message: SipMessage) -> bool:
    """Whether ``Allow`` names UPDATE."""
    return "update" in tokens(message, "allow")
