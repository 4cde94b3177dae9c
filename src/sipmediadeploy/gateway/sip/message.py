"""SIP messages: the only module that knows aiosipua (see docs/decisions/0020).

aiosipua gives the message model and the header codecs; here they get the checks that a hostile network needs,
so that the rest of the user agent reads values that are there and well-formed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from aiosipua.headers import SipUri, Via, parse_address, parse_uri, parse_via, stringify_via
from aiosipua.message import SipMessage, SipRequest, SipResponse

from sipmediadeploy.gateway.sip.api import Hop, Transport

__all__ = [
    "Head",
    "MalformedMessage",
    "NameAddr",
    "SipMessage",
    "SipRequest",
    "SipResponse",
    "parse",
    "response_to",
]

REASONS = {
    100: "Trying", 180: "Ringing", 200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 415: "Unsupported Media Type",
    416: "Unsupported URI Scheme", 420: "Bad Extension", 422: "Session Interval Too Small",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 491: "Request Pending", 500: "Server Internal Error",
    503: "Service Unavailable", 504: "Server Time-out",
}  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,32}")


class MalformedMessage(Exception):
    """Not a SIP message, or one without what every message must have."""


@dataclass(frozen=True, slots=True)
class Head:
    """What every message says (RFC 3261, section 8.1.1), checked."""

    method: str
    cseq: int
    call_id: str
    from_tag: str
    to_tag: str
    branch: str
    sent_by: str


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A From, To, Contact or Route value (RFC 3261, section 20.10)."""

    display_name: str
    uri: str
    user: str
    """As it stands in the URI, percent-encoded."""
    host: str
    port: int | None
    uri_params: dict[str, str | None]
    tag: str


def parse(data: bytes, source: Hop) -> tuple[SipRequest | SipResponse, Head]:
    """Read one message; the top Via of a request gets ``received`` and ``rport`` (RFC 3581).

    Raises:
        MalformedMessage: it is none.
    """
    try:
        message = SipMessage.parse(data.lstrip(b"\r\n"))
        _short_forms(message)
        head = _head(message)
        if isinstance(message, SipRequest):
            _stamp(message, source)
            if not _TOKEN.fullmatch(message.method) or message.method != head.method:
                raise MalformedMessage("the method is none, or not that of CSeq")
        elif not 100 <= message.status_code <= 699:
            raise MalformedMessage("no status code")
    except MalformedMessage:
        raise
    except Exception as error:
        raise MalformedMessage(str(error)[:100]) from error
    return message, head


def _short_forms(message: SipMessage) -> None:
    """Short header names that aiosipua leaves as they are (RFC 4028, RFC 3515)."""
    for short, name in (("x", "Session-Expires"), ("r", "Refer-To")):
        for value in message.headers.get(short):
            message.headers.append(name, value)
        message.headers.remove(short)


def _head(message: SipRequest | SipResponse) -> Head:
    number, _, method = (message.get_header("cseq") or "").strip().partition(" ")
    if not (number.isascii() and number.isdigit() and len(number) <= 10 and int(number) < 2**31):
        raise MalformedMessage("no CSeq number")
    vias = message.headers.get("via")
    call_id = (message.call_id or "").strip()
    if not vias or not call_id or len(call_id) > 256:
        raise MalformedMessage("no Via or no Call-ID")
    via = parse_via(vias[0])
    if not via.host:
        raise MalformedMessage("a Via without an address")
    declared = message.get_header("content-length")
    if declared is not None and (not declared.strip().isdigit() or int(declared) > len(message.body)):
        raise MalformedMessage("the body is shorter than Content-Length")
    return Head(
        method=method.strip(),
        cseq=int(number),
        call_id=call_id,
        from_tag=name_addr(message.get_header("from") or "").tag,
        to_tag=name_addr(message.get_header("to") or "").tag,
        branch=via.branch or f"{number}{call_id}",
        sent_by=f"{via.host}:{via.port or 5060}",
    )


def _stamp(request: SipRequest, source: Hop) -> None:
    values = list(request.headers.get("via"))
    via = parse_via(values[0])
    via.received = None  # only what we saw ourselves: else responses could be sent to a victim
    if via.host != source.host or "rport" in via.params:
        via.received = source.host
    if "rport" in via.params:
        via.rport = str(source.port)
    request.headers.remove("via")
    for value in (stringify_via(via), *values[1:]):
        request.headers.append("Via", value)


def response_hop(request: SipRequest, source: Hop) -> Hop:
    """Where responses to a request go (RFC 3261, section 18.2.2; RFC 3581, section 4).

    On TCP that is the connection it came in on; the user agent falls back to this when that is gone.
    """
    via = parse_via(request.headers.get("via")[0])
    port = int(via.rport) if via.rport and via.rport.isdigit() else via.port or 5060
    return Hop(via.received or via.host, port, source.transport)


def name_addr(text: str) -> NameAddr:
    """Read a name-addr or addr-spec; what is missing is empty.

    Raises:
        MalformedMessage: it is empty.
    """
    text = text.strip()
    if not text:
        raise MalformedMessage("an address is missing")
    display = ""
    if quoted := re.match(r'"((?:[^"\\]|\\.)*)"\s*', text):
        display = re.sub(r"\\(.)", r"\1", quoted.group(1))
        text = text[quoted.end() :]
    before, bracket, rest = text.partition("<")
    uri = rest.partition(">")[0] if bracket else text.partition(";")[0]
    if any(c.isspace() for c in uri.strip()):
        raise MalformedMessage("a URI with white space in it")
    parsed = _parse_uri(uri)
    return NameAddr(
        display_name=display or before.strip() if bracket else display,
        uri=uri.strip(),
        user=_user(uri),
        host=parsed.host,
        port=parsed.port,
        uri_params=parsed.params,
        tag=parse_address(text).tag or "",
    )


def _user(uri: str) -> str:
    rest = uri.partition(":")[2]
    return rest.partition("@")[0] if "@" in rest else ""


def _parse_uri(uri: str) -> SipUri:
    """Without the user part: that may hold ``;`` and ``?``, which aiosipua takes for the end of it."""
    rest = uri.strip().partition(":")[2]
    return parse_uri("sip:" + (rest.partition("@")[2] if "@" in rest else rest))


def uri_user(uri: str) -> str:
    """The user part of a SIP URI without parameters, percent-decoded; empty when there is none."""
    return unquote(_user(uri).partition(":")[0].partition(";")[0], errors="replace")


def uri_scheme(uri: str) -> str:
    """The scheme of a URI in lower case."""
    return uri.partition(":")[0].strip().lower()


def uri_hop(uri: str) -> Hop:
    """Where a request to this URI (or first Route) is sent: its host, port and transport parameter."""
    parsed = _parse_uri(uri)
    transport: Transport = "tcp" if (parsed.params.get("transport") or "").lower() == "tcp" else "udp"
    return Hop(parsed.host, parsed.port or 5060, transport)


def is_loose_router(uri: str) -> bool:
    """Whether a Route's URI has ``lr`` (RFC 3261, section 16.12.1.1)."""
    return "lr" in _parse_uri(uri).params


def new_tag() -> str:
    """A tag, or the random part of a branch or Call-ID: 64 bits."""
    return os.urandom(8).hex()


def add_via(request: SipRequest, address: str, port: int, transport: Transport) -> str:
    """Put our Via on top; the new branch."""
    branch = f"z9hG4bK{new_tag()}"
    via = Via(transport=transport.upper(), host=address, port=port, params={"branch": branch, "rport": None})
    request.headers.append("Via", stringify_via(via))
    return branch


def response_to(
    request: SipRequest,
    status: int,
    reason: str = "",
    *,
    tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
) -> SipResponse:
    """A response with the headers that it takes over (RFC 3261, section 8.2.6)."""
    response = SipResponse(status_code=status, reason_phrase=reason or REASONS.get(status, "Unknown"))
    names = ("Via", "Record-Route") if 100 < status < 300 else ("Via",)
    for name in names:
        for value in request.headers.get(name):
            response.headers.append(name, value)
    to = request.get_header("to") or ""
    if status > 100 and tag and not name_addr(to).tag:
        to += f";tag={tag}"
    response.headers.append("From", request.get_header("from") or "")
    response.headers.append("To", to)
    response.headers.append("Call-ID", request.call_id or "")
    response.headers.append("CSeq", request.get_header("cseq") or "")
    for name, value in headers:
        response.headers.append(name, value)
    return response


def quoted(text: str) -> str:
    """A display name as a quoted string."""
    clean = "".join(c for c in text if c.isprintable())
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '" ' if clean else ""


def top_branch(request: SipRequest) -> str:
    """The branch of the top Via."""
    return parse_via(request.headers.get("via")[0]).branch or ""


def cancel_of(invite: SipRequest) -> SipRequest:
    """The CANCEL of an INVITE: same branch, same everything but the method (RFC 3261, section 9.1)."""
    cancel = SipRequest(method="CANCEL", uri=invite.uri)
    cancel.headers.append("Via", invite.headers.get("via")[0])
    for name in ("From", "To", "Call-ID"):
        cancel.headers.append(name, invite.get_header(name) or "")
    cancel.headers.append("CSeq", (invite.get_header("cseq") or "").replace("INVITE", "CANCEL"))
    cancel.headers.append("Max-Forwards", "70")
    for route in invite.headers.get("route"):
        cancel.headers.append("Route", route)
    return cancel
