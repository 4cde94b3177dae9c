"""A call that comes in: an INVITE before it is finally answered (RFC 3261, section 13.3)."""

from __future__ import annotations

from collections.abc import Callable

from sipmediadeploy.gateway.sip import message as sip
from sipmediadeploy.gateway.sip import session_timer
from sipmediadeploy.gateway.sip.api import DialogEvents
from sipmediadeploy.gateway.sip.dialog import SDP_TYPE, Core, Header, SipDialog
from sipmediadeploy.gateway.sip.transaction import ServerTransaction

SUPPORTED = frozenset({"timer"})


class Refusal(Exception):
    """An INVITE that is answered at once, without asking the handler."""

    def __init__(self, status: int, *headers: Header) -> None:
        super().__init__(str(status))
        self.status = status
        self.headers = headers


def _nothing() -> None:
    return


class IncomingCall:
    """A call to be accepted or rejected."""

    def __init__(self, core: Core, transaction: ServerTransaction) -> None:
        """Check the INVITE.

        Raises:
            Refusal: it can't be a call here.
        """
        request, head = transaction.request, transaction.head
        self._transaction = transaction
        self._check(transaction)
        try:
            self._timer, self._headers = session_timer.from_request(request)
        except session_timer.IntervalTooSmall:
            raise Refusal(422, ("Min-SE", str(session_timer.MIN_SE))) from None
        caller = sip.name_addr(request.get_header("from") or "")
        self.call_id = head.call_id
        self.user = sip.uri_user(request.uri)
        """Of the Request-URI, percent-decoded."""
        self.display_name = caller.display_name
        self.caller_user = sip.uri_user(caller.uri)
        self.offer: str | None = request.text if request.body else None
        """None: the offer is to be made in the 200 (delayed offer)."""
        self.on_cancel: Callable[[], None] = _nothing
        """The caller has given up; 487 was sent already."""
        self.dialog = SipDialog(
            core,
            call_id=head.call_id,
            local=f"{request.get_header('to')};tag={sip.new_tag()}",
            remote=request.get_header("from") or "",
            remote_target=sip.name_addr(request.get_header("contact") or "").uri,
            route_set=list(request.headers.get("record-route")),
            local_cseq=0,
            remote_cseq=head.cseq,
            flow=transaction.source,
        )
        self.dialog.remote_sdp = self.offer or ""

    @staticmethod
    def _check(transaction: ServerTransaction) -> None:
        request = transaction.request
        if sip.uri_scheme(request.uri) not in ("sip", "sips"):
            raise Refusal(416)
        required = session_timer.tokens(request, "require") - SUPPORTED - {""}
        if required:
            raise Refusal(420, ("Unsupported", ", ".join(sorted(required))))
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        if request.body and (content_type != SDP_TYPE or request.get_header("content-encoding")):
            raise Refusal(415, ("Accept", SDP_TYPE), ("Accept-Encoding", "identity"))
        contact = sip.name_addr(request.get_header("contact") or "").uri
        if not transaction.head.from_tag or sip.uri_scheme(contact) not in ("sip", "sips"):
            raise Refusal(400)

    @property
    def answered(self) -> bool:
        """Whether it was accepted, rejected or cancelled."""
        return self._transaction.answered

    def ring(self) -> None:
        """180 Ringing."""
        self._transaction.answer(180, tag=self.dialog.local_tag)

    def reject(self, status: int, *headers: Header) -> None:
        """Refuse the call; nothing happens when it was answered before."""
        if not self.answered:
            self._transaction.answer(status, tag=self.dialog.local_tag, headers=headers)
            self.dialog.end()

    def accept(self, sdp: str, events: DialogEvents) -> SipDialog | None:
        """200 OK with the answer (or, for a delayed offer, the offer); None when it was cancelled before."""
        if self.answered:
            return None
        self.dialog.events = events
        self.dialog.run_timer(self._timer)
        self.dialog.accept(self._transaction, sdp, self._headers, answer_due=self.offer is None)
        return self.dialog

    def cancelled(self) -> None:
        """The CANCEL has come."""
        if not self.answered:
            self.reject(487)
            self.on_cancel()
