"""Transactions (RFC 3261, section 17): retransmission until answered, answers to what is retransmitted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sipmediadeploy.gateway.sip.api import Hop
from sipmediadeploy.gateway.sip.message import Head, SipRequest, SipResponse, response_to
from sipmediadeploy.gateway.sip.sockets import Sockets


@dataclass(frozen=True, slots=True)
class Timers:
    """RFC 3261, table 4, in seconds."""

    t1: float = 0.5
    t2: float = 4.0
    ringing: float = 180.0
    """How long an INVITE may stay provisionally answered (timer C)."""

    @property
    def patience(self) -> float:
        """64 T1: timers B, F, H, J, and how long a 2xx is retransmitted."""
        return 64 * self.t1


class Repeater:
    """Calls ``send`` after T1, 2 T1, 4 T1 ... (at most ``longest``) until stopped, or for 64 T1."""

    def __init__(
        self, timers: Timers, send: Callable[[], None], gave_up: Callable[[], None], *, longest: float | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._longest = longest
        self.interval = timers.t1
        self._next = self._loop.call_later(self.interval, self._again)
        self._end = self._loop.call_later(timers.patience, self._over, gave_up)

    def _again(self) -> None:
        self.interval = min(self.interval * 2, self._longest or self.interval * 2)
        self._next = self._loop.call_later(self.interval, self._again)
        self._send()

    def _over(self, gave_up: Callable[[], None]) -> None:
        self.stop()
        gave_up()

    def slow_down(self, interval: float) -> None:
        """From now on at this interval (timer E after a provisional answer)."""
        self.interval = interval

    def stop(self) -> None:
        """No more."""
        self._next.cancel()
        self._end.cancel()


class ServerTransaction:
    """A request from the other side and what it was answered."""

    def __init__(
        self, request: SipRequest, head: Head, source: Hop, reply_to: Hop, sockets: Sockets, timers: Timers
    ) -> None:
        self.request = request
        self.head = head
        self.source = source
        self.status = 0
        self.done = asyncio.get_running_loop().create_future()
        """Set when the transaction may be forgotten."""
        self._reply_to = reply_to
        self._sockets = sockets
        self._timers = timers
        self._last: bytes | None = None
        self._repeater: Repeater | None = None

    @property
    def answered(self) -> bool:
        """Whether a final response was given."""
        return self.status >= 200

    def answer(self, status: int, *, tag: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer without a body; nothing happens when it was finally answered before."""
        self.send(response_to(self.request, status, tag=tag, headers=headers))

    def send(self, response: SipResponse) -> None:
        """Send a response, and a non-2xx to an INVITE again until its ACK (timers G and H)."""
        if self.answered:
            return
        self.status = response.status_code
        self._last = bytes(response)
        self.repeat()
        if not self.answered:
            return
        if self.head.method == "INVITE" and self.status >= 300 and self.source.transport == "udp":
            self._repeater = Repeater(self._timers, self.repeat, self._over, longest=self._timers.t2)
        else:
            asyncio.get_running_loop().call_later(self._timers.patience, self._over)

    def repeat(self) -> None:
        """Send the last response (again): the request was retransmitted."""
        if self._last is None:
            return
        same = self.source.transport == "udp" or not self._sockets.connected(self.source)
        self._sockets.send(self._last, self._reply_to if same else self.source)

    def acknowledged(self) -> None:
        """The ACK to a non-2xx has come."""
        if self._repeater is not None:
            self._repeater.stop()
            self._repeater = None
            asyncio.get_running_loop().call_later(self._timers.t1 * 10, self._over)

    def stop(self) -> None:
        """Forget it."""
        if self._repeater is not None:
            self._repeater.stop()
        self._over()

    def _over(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class ClientTransaction:
    """A request of ours, sent until it is answered; ``final`` is None when nobody answers in time."""

    def __init__(self, request: SipRequest, hop: Hop, sockets: Sockets, timers: Timers) -> None:
        self.request = request
        self.hop = hop
        self.final: asyncio.Future[tuple[SipResponse, Head] | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.provisional = asyncio.Event()
        self._sockets = sockets
        self._timers = timers
        self._data = bytes(request)
        self._invite = request.method == "INVITE"
        self._ack: bytes | None = None
        self._ringing: asyncio.TimerHandle | None = None
        longest = None if self._invite else timers.t2
        sockets.send(self._data, hop)
        self._repeater = Repeater(timers, self._again, self.abandon, longest=longest)

    def received(self, response: SipResponse, head: Head) -> None:
        """A response that belongs to this transaction."""
        if response.status_code < 200:
            self._received_provisional()
            return
        if self._invite and response.status_code >= 300:
            self._acknowledge(response)
        self.stop()
        if not self.final.done():
            self.final.set_result((response, head))

    def stop(self) -> None:
        """Send no more."""
        self._repeater.stop()
        if self._ringing is not None:
            self._ringing.cancel()

    def _received_provisional(self) -> None:
        if self.final.done():
            return
        self.provisional.set()
        if not self._invite:
            self._repeater.slow_down(self._timers.t2)
            return
        self._repeater.stop()
        if self._ringing is not None:
            self._ringing.cancel()
        self._ringing = asyncio.get_running_loop().call_later(self._timers.ringing, self.abandon)

    def _acknowledge(self, response: SipResponse) -> None:
        """ACK to a non-2xx: part of this transaction, same branch (RFC 3261, section 17.1.1.3)."""
        if self._ack is None:
            ack = SipRequest(method="ACK", uri=self.request.uri)
            ack.headers.append("Via", self.request.headers.get("via")[0])
            for name in ("From", "Call-ID"):
                ack.headers.append(name, self.request.get_header(name) or "")
            ack.headers.append("To", response.get_header("to") or "")
            ack.headers.append("CSeq", (self.request.get_header("cseq") or "").replace("INVITE", "ACK"))
            ack.headers.append("Max-Forwards", "70")
            for route in self.request.headers.get("route"):
                ack.headers.append("Route", route)
            self._ack = bytes(ack)
        self._sockets.send(self._ack, self.hop)

    def _again(self) -> None:
        if self.hop.transport == "udp":
            self._sockets.send(self._data, self.hop)
        elif self._repeater.interval >= self._timers.t2:
            # A connection to a machine that died looks open for minutes: try a new one.
            self._sockets.drop(self.hop)
            self._sockets.send(self._data, self.hop)

    def abandon(self) -> None:
        """Nobody will answer any more."""
        self.stop()
        if not self.final.done():
            self.final.set_result(None)
