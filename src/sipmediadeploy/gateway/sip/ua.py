"""The SIP user agent: calls come in through ``on_invite``, go out with :meth:`UserAgent.place`.

Used by the gateway's server and by the test client. In-dialog requests go to the first Route (RFC 3261,
section 12.2.1.1), never to where the INVITE happened to come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from sipmediadeploy.gateway.sip import message as sip
from sipmediadeploy.gateway.sip.api import CallRefused, Dialog, DialogEvents, Hop, Transport
from sipmediadeploy.gateway.sip.dialog import SDP_TYPE, Header, SipDialog
from sipmediadeploy.gateway.sip.incoming import IncomingCall, Refusal
from sipmediadeploy.gateway.sip.message import Head, MalformedMessage, SipRequest, SipResponse
from sipmediadeploy.gateway.sip.sockets import Sockets
from sipmediadeploy.gateway.sip.transaction import ClientTransaction, ServerTransaction, Timers

log = structlog.get_logger(__name__)

ALLOW = ("INVITE", "ACK", "BYE", "CANCEL", "INFO", "OPTIONS", "UPDATE")
MAX_TRANSACTIONS = 20_000
"""Beyond it new requests are dropped, as a network would."""


def _no_calls(call: IncomingCall) -> None:
    call.reject(488)


class UserAgent:
    """A user agent on one address, UDP and TCP."""

    def __init__(
        self,
        address: str,
        port: int = 0,
        *,
        on_invite: Callable[[IncomingCall], None] = _no_calls,
        on_options: Callable[[], int] = lambda: 200,
        timers: Timers = Timers(),  # noqa: B008 (frozen)
        product: str = "SIPMediaDeploy",
    ) -> None:
        self.sockets = Sockets(address, port, self._received)
        self.timers = timers
        self.malformed = 0
        """Messages dropped because they were no SIP."""
        self._on_invite = on_invite
        self._on_options = on_options
        self._product = product
        self._servers: dict[tuple[str, str, str], ServerTransaction] = {}
        self._clients: dict[tuple[str, str], ClientTransaction] = {}
        self._dialogs: dict[tuple[str, str, str], SipDialog] = {}
        self._incoming: dict[ServerTransaction, IncomingCall] = {}

    @property
    def address(self) -> str:
        """What it is bound to."""
        return self.sockets.address

    @property
    def port(self) -> int:
        """What it is bound to, after :meth:`start`."""
        return self.sockets.port

    @property
    def active_dialogs(self) -> int:
        """How many dialogs there are, early ones included."""
        return len(self._dialogs)

    async def start(self) -> None:
        """Bind; port 0 takes a free one.

        Raises:
            OSError: the address or port can't be bound.
        """
        await self.sockets.start()

    async def stop(self) -> None:
        """Close all sockets and timers; dialogs are forgotten, not ended."""
        for dialog in list(self._dialogs.values()):
            dialog.end()
        for client in self._clients.values():
            client.abandon()
        for server in list(self._servers.values()):
            server.stop()
        await self.sockets.stop()

    async def place(
        self,
        uri: str,
        *,
        proxy: Hop,
        offer: str,
        events: DialogEvents | None = None,
        from_user: str = "smd",
        display_name: str = "",
    ) -> Dialog:
        """Call ``uri`` through ``proxy``; returns when answered. Cancelling the task sends a CANCEL.

        Raises:
            CallRefused: a final response other than 2xx, none in time (408), nobody to send it to (503).
        """
        try:
            hop = await self.sockets.resolve(proxy)
        except OSError as error:
            raise CallRefused(503, f"{proxy.host}:{proxy.port} can't be reached: {error}") from error
        local = f"{sip.quoted(display_name)}<sip:{from_user}@{self.address}>;tag={sip.new_tag()}"
        invite = self._invite(uri, local, hop, offer)
        client = self._send(invite, hop)
        try:
            outcome = await asyncio.shield(client.final)
        except asyncio.CancelledError:
            self.sockets.spawn(self._give_up(client))
            raise
        if outcome is None:
            self.sockets.spawn(self._give_up(client))
            raise CallRefused(408, "no answer")
        response, head = outcome
        if response.status_code >= 300:
            raise CallRefused(response.status_code, response.reason_phrase)
        return await self._confirm(client, response, head, events or DialogEvents())

    # What dialogs need

    def own_headers(self, transport: Transport) -> tuple[Header, ...]:
        """Contact, Allow, Supported and our name."""
        parameter = ";transport=tcp" if transport == "tcp" else ""
        return (
            ("Contact", f"<sip:smd@{self.address}:{self.port}{parameter}>"),
            ("Allow", ", ".join(ALLOW)),
            ("Supported", "timer"),
            ("User-Agent", self._product),
        )

    async def transact(self, request: SipRequest, hop: Hop) -> tuple[SipResponse, Head] | None:
        """Send a request until it is answered; None when nobody answers."""
        client = self._send(request, hop)
        return await asyncio.shield(client.final)

    def forget(self, dialog: SipDialog) -> None:
        """The dialog is over."""
        self._dialogs.pop((dialog.call_id, dialog.local_tag, dialog.remote_tag), None)

    # Calls going out

    def _invite(self, uri: str, local: str, hop: Hop, offer: str) -> SipRequest:
        invite = SipRequest(method="INVITE", uri=uri)
        sip.add_via(invite, self.address, self.port, hop.transport)
        for name, value in (
            ("Max-Forwards", "70"),
            ("From", local),
            ("To", f"<{uri}>"),
            ("Call-ID", f"{sip.new_tag()}{sip.new_tag()}"),
            ("CSeq", "1 INVITE"),
            *self.own_headers(hop.transport),
        ):
            invite.headers.append(name, value)
        invite.content_type = SDP_TYPE
        invite.text = offer
        return invite

    def _send(self, request: SipRequest, hop: Hop) -> ClientTransaction:
        client = ClientTransaction(request, hop, self.sockets, self.timers)
        branch = sip.top_branch(request)
        self._clients[branch, request.method] = client

        def over() -> None:
            self._clients.pop((branch, request.method), None)

        # Kept for what is retransmitted after the final response (timer D).
        client.final.add_done_callback(
            lambda _: asyncio.get_running_loop().call_later(self.timers.patience, over)
        )
        return client

    async def _confirm(
        self, client: ClientTransaction, response: SipResponse, head: Head, events: DialogEvents
    ) -> SipDialog:
        request = client.request
        dialog = SipDialog(
            self,
            call_id=head.call_id,
            local=request.get_header("from") or "",
            remote=response.get_header("to") or "",
            remote_target=request.uri,
            route_set=list(reversed(response.headers.get("record-route"))),
            local_cseq=head.cseq,
            remote_cseq=-1,
            flow=client.hop,
        )
        dialog.events = events
        dialog.local_sdp, dialog.remote_sdp = request.text, response.text
        dialog.retarget(response)
        self._dialogs[dialog.call_id, dialog.local_tag, dialog.remote_tag] = dialog
        await dialog.send_ack(head.cseq)
        return dialog

    async def _give_up(self, client: ClientTransaction) -> None:
        """CANCEL (RFC 3261, section 9.1); an answer that was faster is acknowledged and ended."""
        if not client.final.done():
            provisional = asyncio.ensure_future(client.provisional.wait())
            either: set[asyncio.Future[Any]] = {provisional, client.final}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            provisional.cancel()
        if not client.final.done() or client.final.result() is None:
            await self.transact(sip.cancel_of(client.request), client.hop)
            done, _ = await asyncio.wait({client.final}, timeout=self.timers.patience)
            if not done:
                client.abandon()
        outcome = client.final.result()
        if outcome is not None and outcome[0].status_code < 300:
            await (await self._confirm(client, *outcome, DialogEvents())).bye()

    # What comes in

    def _received(self, data: bytes, source: Hop) -> None:
        try:
            message, head = sip.parse(data, source)
        except MalformedMessage as error:
            self.malformed += 1
            log.info("malformed message dropped", peer=f"{source.host}:{source.port}", error=str(error))
            return
        try:
            if isinstance(message, SipRequest):
                self._received_request(message, head, source)
            else:
                self._received_response(message, head)
        except Exception:
            # The last line: whatever one message does must not reach other calls.
            log.exception("message not handled", call=head.call_id, method=head.method)

    def _received_response(self, response: SipResponse, head: Head) -> None:
        client = self._clients.get((head.branch, head.method))
        if client is None:
            return
        repeated = client.final.done()
        client.received(response, head)
        if repeated and head.method == "INVITE" and response.status_code < 300:
            dialog = self._dialogs.get((head.call_id, head.from_tag, head.to_tag))
            if dialog is not None and response.status_code >= 200:
                dialog.repeat_ack(head.cseq)

    def _received_request(self, request: SipRequest, head: Head, source: Hop) -> None:
        if head.method == "ACK":
            self._received_ack(request, head)
            return
        key = (head.branch, head.sent_by, head.method)
        if (known := self._servers.get(key)) is not None:
            known.repeat()
            return
        if len(self._servers) >= MAX_TRANSACTIONS:
            log.warning("request dropped", call=head.call_id, transactions=len(self._servers))
            return
        hop = sip.response_hop(request, source)
        server = ServerTransaction(request, head, source, hop, self.sockets, self.timers)
        self._servers[key] = server
        server.done.add_done_callback(lambda _: self._servers.pop(key, None))
        try:
            self._dispatch(server)
        except MalformedMessage:
            self._answer(server, 400)
        except Exception:
            self._answer(server, 500)
            raise

    def _dispatch(self, server: ServerTransaction) -> None:
        head = server.head
        if head.method not in ALLOW:
            self._answer(server, 405, ("Allow", ", ".join(ALLOW)))
        elif head.method == "CANCEL":
            self._received_cancel(server)
        elif head.to_tag:
            dialog = self._dialogs.get((head.call_id, head.to_tag, head.from_tag))
            if dialog is None:
                self._answer(server, 481)
            else:
                dialog.received(server)
        elif head.method == "INVITE":
            self._received_invite(server)
        elif head.method == "OPTIONS":
            self._answer(
                server, self._on_options(), *self.own_headers(server.source.transport), ("Accept", SDP_TYPE)
            )
        else:
            self._answer(server, 481)

    def _answer(self, server: ServerTransaction, status: int, *headers: Header) -> None:
        server.answer(status, tag=sip.new_tag(), headers=headers)

    def _received_ack(self, request: SipRequest, head: Head) -> None:
        server = self._servers.get((head.branch, head.sent_by, "INVITE"))
        if server is not None and server.status >= 300:
            server.acknowledged()
        elif (dialog := self._dialogs.get((head.call_id, head.to_tag, head.from_tag))) is not None:
            dialog.acknowledged(head, request)

    def _received_cancel(self, server: ServerTransaction) -> None:
        head = server.head
        invite = self._servers.get((head.branch, head.sent_by, "INVITE"))
        if invite is None:
            self._answer(server, 481)
            return
        self._answer(server, 200)
        if (call := self._incoming.get(invite)) is not None:
            call.cancelled()

    def _received_invite(self, server: ServerTransaction) -> None:
        head = server.head
        if self._merged(server):
            self._answer(server, 482)
            return
        self._answer(server, 100)
        try:
            call = IncomingCall(self, server)
        except Refusal as refusal:
            self._answer(server, refusal.status, *refusal.headers)
            return
        dialog = call.dialog
        self._dialogs[dialog.call_id, dialog.local_tag, dialog.remote_tag] = dialog
        self._incoming[server] = call
        server.done.add_done_callback(lambda _: self._incoming.pop(server, None))
        log.info(
            "call comes in",
            call=head.call_id,
            user=call.user,
            peer=f"{server.source.host}:{server.source.port}",
        )
        self._on_invite(call)

    def _merged(self, server: ServerTransaction) -> bool:
        """The same INVITE by another way while the first one lives (RFC 3261, section 8.2.2.2)."""
        this = server.head
        return any(
            (h.call_id, h.from_tag, h.cseq) == (this.call_id, this.from_tag, this.cseq)
            for other in self._incoming
            if other is not server and other.status < 300 and (h := other.head).method == "INVITE"
        )
