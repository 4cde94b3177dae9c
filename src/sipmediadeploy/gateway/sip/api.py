"""Values of the SIP user agent: where requests go, what happens in a dialog, how a call is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Transport = Literal["udp", "tcp"]


class CallRefused(Exception):
    """A final response other than 2xx; ``status`` 408: nobody answered, 503: nobody could be reached."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class OfferRefused(Exception):
    """Raised by :attr:`DialogEvents.offer` to refuse a re-INVITE or UPDATE; the session stays as it is."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a request is sent: address (or host name), port, transport."""

    host: str
    port: int = 5060
    transport: Transport = "udp"


async def _refuse_offer(_offer: str | None) -> str:
    raise OfferRefused(488, "Not Acceptable Here")


@dataclass(frozen=True, slots=True)
class DialogEvents:
    """What the other side does in a dialog. Callbacks run on the event loop and must not block."""

    bye: Callable[[], None] = lambda: None
    """The other side has ended the call; it was answered already."""
    info: Callable[[str, bytes], int] = lambda _content_type, _body: 200
    """An INFO (content type without parameters in lower case, body); returns the status of the answer."""
    offer: Callable[[str | None], Awaitable[str]] = _refuse_offer
    """An offer (re-INVITE, UPDATE): returns the answer. None (re-INVITE without SDP): returns an offer."""
    answer: Callable[[str], None] = lambda _sdp: None
    """The answer to an offer of ours that came in the ACK (delayed offer)."""
    expired: Callable[[], None] = lambda: None
    """The session timer has run out, or its refresh was refused (RFC 4028, section 10)."""
    ack_timeout: Callable[[], None] = lambda: None
    """No ACK for our 2xx within 32 s (RFC 3261, section 13.3.1.4)."""


class Dialog(Protocol):
    """A confirmed dialog (RFC 3261, section 12)."""

    @property
    def call_id(self) -> str: ...

    @property
    def remote_sdp(self) -> str:
        """The last session description that the other side sent."""
        ...

    async def bye(self) -> int:
        """BYE, retransmitted until answered; the final status (408: no answer). Never raises."""
        ...

    async def info(self, content_type: str, body: str) -> int:
        """Send an INFO; the final status (408: no answer). Never raises."""
        ...

    async def reinvite(self, offer: str) -> str:
        """Send a re-INVITE; the SDP answer.

        Raises:
            CallRefused: it was refused or not answered; the session is as before.
        """
        ...
