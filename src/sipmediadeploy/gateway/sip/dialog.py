"""A dialog (RFC 3261, section 12): its requests in both directions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Protocol

import structlog

from sipmediadeploy.gateway.sip import message as sip
from sipmediadeploy.gateway.sip import session_timer
from sipmediadeploy.gateway.sip.api import CallRefused, DialogEvents, Hop, OfferRefused, Transport
from sipmediadeploy.gateway.sip.message import Head, SipRequest, SipResponse
from sipmediadeploy.gateway.sip.session_timer import SessionTimer
from sipmediadeploy.gateway.sip.sockets import Sockets
from sipmediadeploy.gateway.sip.transaction import Repeater, ServerTransaction, Timers

log = structlog.get_logger(__name__)

Header = tuple[str, str]
SDP_TYPE = "application/sdp"


class Core(Protocol):
    """What a dialog needs from its user agent."""

    sockets: Sockets
    timers: Timers

    def own_headers(self, transport: Transport) -> tuple[Header, ...]:
        """Contact, Allow and Supported."""
        ...

    async def transact(self, request: SipRequest, hop: Hop) -> tuple[SipResponse, Head] | None:
        """Send a request until it is answered; None when nobody answers."""
        ...

    def forget(self, dialog: SipDialog) -> None:
        """The dialog is over."""
        ...


class SipDialog:
    """One dialog; early until :meth:`confirm`."""

    def __init__(
        self,
        core: Core,
        *,
        call_id: str,
        local: str,
        remote: str,
        remote_target: str,
        route_set: list[str],
        local_cseq: int,
        remote_cseq: int,
        flow: Hop,
    ) -> None:
        self._core = core
        self.call_id = call_id
        self.local, self.remote = local, remote
        self.local_tag = sip.name_addr(local).tag
        self.remote_tag = sip.name_addr(remote).tag
        self.remote_target = remote_target
        self.route_set = route_set
        self.events = DialogEvents()
        self.remote_sdp = ""
        self.local_sdp = ""
        self.ended = False
        self._flow = flow
        self._local_cseq = local_cseq
        self._remote_cseq = remote_cseq
        self._inviting = asyncio.Lock()
        self._invited: ServerTransaction | None = None
        self._accepted: tuple[int, bool] | None = None
        """CSeq of the INVITE whose 2xx waits for its ACK, and whether the answer will be in that."""
        self._repeater: Repeater | None = None
        self._acknowledged = asyncio.Event()
        self._acknowledged.set()
        self._ack: tuple[int, bytes, Hop] | None = None
        self._timer: SessionTimer | None = None
        self._clock: asyncio.TimerHandle | None = None

    # What the other side sends

    def received(self, transaction: ServerTransaction) -> None:
        """A request in this dialog, except ACK and CANCEL."""
        head = transaction.head
        if head.cseq <= self._remote_cseq:
            self._answer(transaction, 500)
            return
        self._remote_cseq = head.cseq
        if self.ended and head.method != "BYE":
            self._answer(transaction, 481)
            return
        match head.method:
            case "BYE":
                self._answer(transaction, 200)
                if not self.ended:
                    self.end()
                    self.events.bye()
            case "INFO":
                content_type = (transaction.request.content_type or "").partition(";")[0].strip().lower()
                self._answer(transaction, self.events.info(content_type, transaction.request.body))
            case "INVITE" | "UPDATE":
                self._received_offer(transaction)
            case _:
                self._answer(transaction, 200)

    def acknowledged(self, head: Head, request: SipRequest) -> None:
        """An ACK to a 2xx of ours."""
        if self._accepted is None or head.cseq != self._accepted[0]:
            return
        answer_due = self._accepted[1]
        self._settle()
        if answer_due and request.body and not self.ended:
            self.remote_sdp = request.text
            self.events.answer(self.remote_sdp)

    def _received_offer(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if self._invited is not None and not self._invited.answered:
            self._answer(transaction, 500, ("Retry-After", str(random.randint(0, 10))))  # noqa: S311
            return
        if self._inviting.locked():
            self._answer(transaction, 491)
            return
        if request.body and (request.content_type or "").partition(";")[0].strip().lower() != SDP_TYPE:
            self._answer(transaction, 415, ("Accept", SDP_TYPE))
            return
        try:
            timer, headers = session_timer.from_request(request)
        except session_timer.IntervalTooSmall:
            self._answer(transaction, 422, ("Min-SE", str(session_timer.MIN_SE)))
            return
        self._invited = transaction
        self._spawn(self._answer_offer(transaction, timer, headers))

    async def _answer_offer(
        self, transaction: ServerTransaction, timer: SessionTimer | None, headers: tuple[Header, ...]
    ) -> None:
        request, invite = transaction.request, transaction.head.method == "INVITE"
        offer = request.text if request.body else None
        body = ""
        if invite:
            self._answer(transaction, 100)
        try:
            if offer is not None or invite:
                body = await self.events.offer(offer)
        except OfferRefused as refusal:
            self._answer(transaction, refusal.status)
            return
        except Exception:
            log.exception("offer not answered", call=self.call_id)
            self._answer(transaction, 500)
            return
        if self.ended:
            self._answer(transaction, 487)
            return
        if offer is not None:
            self.remote_sdp = offer
        self.retarget(request)
        self.run_timer(timer)
        self.accept(transaction, body, headers, answer_due=invite and offer is None)

    def _answer(self, transaction: ServerTransaction, status: int, *headers: Header) -> None:
        transaction.answer(status, tag=self.local_tag, headers=headers)

    def accept(
        self,
        transaction: ServerTransaction,
        sdp: str,
        headers: tuple[Header, ...],
        *,
        answer_due: bool = False,
    ) -> None:
        """Send the 2xx; to an INVITE again and again until its ACK (RFC 3261, section 13.3.1.4)."""
        if transaction.answered:
            return
        own = self._core.own_headers(transaction.source.transport)
        response = sip.response_to(transaction.request, 200, tag=self.local_tag, headers=(*own, *headers))
        if sdp:
            self.local_sdp = sdp
            response.content_type = SDP_TYPE
            response.text = sdp
        transaction.send(response)
        if transaction.head.method == "INVITE":
            self._settle()
            self._acknowledged.clear()
            self._accepted = (transaction.head.cseq, answer_due)
            timers = self._core.timers
            self._repeater = Repeater(timers, transaction.repeat, self._no_ack, longest=timers.t2)

    def _settle(self) -> None:
        self._accepted = None
        self._acknowledged.set()
        if self._repeater is not None:
            self._repeater.stop()
            self._repeater = None

    def _no_ack(self) -> None:
        self._settle()
        if not self.ended:
            self.events.ack_timeout()

    # What this side sends

    async def bye(self) -> int:
        """BYE, retransmitted until answered; the final status (408: no answer). Never raises."""
        if self.ended:
            return 481
        self.ended = True
        self._stop_clock()
        try:
            # Not before the ACK (RFC 3261, section 15); after a few repeated 2xx it will not come any more.
            async with asyncio.timeout(self._core.timers.t2):
                await self._acknowledged.wait()
        except TimeoutError:
            pass
        try:
            status, _ = await self._request("BYE")
        finally:
            self.end()
        return status

    async def info(self, content_type: str, body: str) -> int:
        """Send an INFO; the final status (408: no answer). Never raises."""
        status, _ = await self._request("INFO", body, content_type)
        return status

    async def reinvite(self, offer: str, headers: tuple[Header, ...] = ()) -> str:
        """Send a re-INVITE; the SDP answer.

        Raises:
            CallRefused: it was refused or not answered; the session is as before.
        """
        async with self._inviting:
            for _ in range(4):
                status, response = await self._request("INVITE", offer, SDP_TYPE, headers)
                if status != 491:
                    break
                await asyncio.sleep(random.uniform(0.1, 2.0))  # noqa: S311 (RFC 3261, section 14.1)
            if response is None or status >= 300:
                raise CallRefused(status, response.reason_phrase if response else "no answer")
            self.local_sdp = offer
            if response.body:
                self.remote_sdp = response.text
            return self.remote_sdp

    async def _request(
        self, method: str, body: str = "", content_type: str = "", headers: tuple[Header, ...] = ()
    ) -> tuple[int, SipResponse | None]:
        uri, hop = self._next()
        try:
            hop = await self._core.sockets.resolve(hop)
        except OSError as error:
            if not (self._flow.transport == "tcp" and self._core.sockets.connected(self._flow)):
                log.warning(
                    "next hop unreachable", call=self.call_id, method=method, hop=hop, error=str(error)
                )
                return 503, None
            hop = self._flow
        self._local_cseq += 1
        cseq = self._local_cseq
        request = self._build(method, uri, cseq, hop)
        for name, value in headers:
            request.headers.append(name, value)
        if body:
            request.content_type = content_type
            request.text = body
        outcome = await self._core.transact(request, hop)
        if outcome is None:
            log.warning("request not answered", call=self.call_id, method=method, hop=hop)
            return 408, None
        response, _ = outcome
        if method in ("INVITE", "UPDATE") and response.status_code < 300:
            self.retarget(response)
            if method == "INVITE":
                await self.send_ack(cseq)
        return response.status_code, response

    def _next(self) -> tuple[str, Hop]:
        """Request-URI and next hop (RFC 3261, section 12.2.1.1)."""
        if not self.route_set:
            return self.remote_target, sip.uri_hop(self.remote_target)
        first = sip.name_addr(self.route_set[0]).uri
        return (self.remote_target if sip.is_loose_router(first) else first), sip.uri_hop(first)

    def _build(self, method: str, uri: str, cseq: int, hop: Hop) -> SipRequest:
        request = SipRequest(method=method, uri=uri)
        sip.add_via(request, self._core.sockets.address, self._core.sockets.port, hop.transport)
        routes = self.route_set
        if routes and uri != self.remote_target:
            routes = [*routes[1:], f"<{self.remote_target}>"]
        for name, value in (
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            *(("Route", route) for route in routes),
            *(self._core.own_headers(hop.transport) if method not in ("BYE", "ACK") else ()),
        ):
            request.headers.append(name, value)
        return request

    async def send_ack(self, cseq: int) -> None:
        """ACK a 2xx: a request of its own, on the dialog's route (RFC 3261, section 13.2.2.4)."""
        uri, hop = self._next()
        try:
            hop = await self._core.sockets.resolve(hop)
        except OSError:
            hop = self._flow
        self._ack = (cseq, bytes(self._build("ACK", uri, cseq, hop)), hop)
        self.repeat_ack(cseq)

    def repeat_ack(self, cseq: int) -> None:
        """The 2xx was retransmitted."""
        if self._ack is not None and self._ack[0] == cseq:
            self._core.sockets.send(self._ack[1], self._ack[2])

    # Life

    def retarget(self, message: SipRequest | SipResponse) -> None:
        """A new remote target (RFC 3261, section 12.2): the Contact of a re-INVITE, UPDATE or their 2xx."""
        if contact := message.get_header("contact"):
            self.remote_target = sip.name_addr(contact).uri

    def run_timer(self, timer: SessionTimer | None) -> None:
        """(Re)start the session timer; None: there is none (any more)."""
        self._stop_clock()
        self._timer = timer
        if timer is not None and not self.ended:
            self._clock = asyncio.get_running_loop().call_later(timer.delay, self._time_is_up, timer)

    def _time_is_up(self, timer: SessionTimer) -> None:
        if timer.we_refresh:
            self._spawn(self._refresh(timer))
        else:
            self.run_timer(timer)
            self.events.expired()

    async def _refresh(self, timer: SessionTimer) -> None:
        headers = (("Session-Expires", f"{timer.interval};refresher=uac"),)
        response: SipResponse | None = None
        if timer.by_update:
            status, response = await self._request("UPDATE", headers=headers)
        else:
            try:
                await self.reinvite(self.local_sdp, headers)
                status = 200
            except CallRefused as refusal:
                status = refusal.status
        if self.ended:
            return
        self.run_timer(session_timer.after_refresh(timer, response))
        if status in (408, 481):
            self.events.expired()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def end(self) -> None:
        """Forget the dialog; nothing is sent."""
        self.ended = True
        self._stop_clock()
        self._settle()
        if self._invited is not None and not self._invited.answered:
            self._answer(self._invited, 487)
        self._core.forget(self)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._core.sockets.spawn(work)
