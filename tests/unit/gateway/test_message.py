"""SIP messages from a hostile network: read, or refused by name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipmediadeploy.gateway.sip import message as sip
from sipmediadeploy.gateway.sip.api import Hop

SOURCE = Hop("192.0.2.1", 5062, "udp")
INVITE = (
    b"INVITE sip:room%201;x=1@example.org;transport=udp SIP/2.0\r\n"
    b"v: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1, SIP/2.0/TCP 198.51.100.1;branch=z9hG4bK0\r\n"
    b'f: "A \\"B\\" <C>" <sip:anna@example.org:5070;x=y>;tag=1\r\nt: sip:room@example.org\r\ni: 1@x\r\n'
    b"CSeq: 7  INVITE\r\nm: <sip:anna@192.0.2.1;transport=tcp>\r\n"
    b"Record-Route: <sip:192.0.2.9:5080;lr;r2=on>, <sip:192.0.2.9;lr;r2=on>\r\nl: 0\r\n\r\n"
)


def test_short_forms_quotes_and_lists_are_read() -> None:
    message, head = sip.parse(b"\r\n\r\n" + INVITE, SOURCE)
    assert isinstance(message, sip.SipRequest)
    assert (head.method, head.cseq, head.call_id, head.from_tag, head.to_tag) == ("INVITE", 7, "1@x", "1", "")
    assert (head.branch, head.sent_by) == ("z9hG4bK1", "192.0.2.1:5060")
    caller = sip.name_addr(message.get_header("from") or "")
    assert (caller.display_name, caller.user, caller.port) == ('A "B" <C>', "anna", 5070)
    assert sip.uri_user(message.uri) == "room 1"
    contact = "<sip:a;b=1%20?@192.0.2.7:5999;transport=tcp;ob>;+sip.instance=x"
    assert sip.name_addr(contact).uri == "sip:a;b=1%20?@192.0.2.7:5999;transport=tcp;ob"
    assert sip.uri_hop(sip.name_addr(contact).uri) == Hop("192.0.2.7", 5999, "tcp")
    assert sip.name_addr("sip:b@c;tag=9").uri == "sip:b@c"
    assert sip.name_addr("sip:b@c;tag=9").tag == "9"
    assert sip.name_addr("Anna B <sip:b@c>").display_name == "Anna B"
    assert message.headers.get("record-route")[0] == "<sip:192.0.2.9:5080;lr;r2=on>"
    assert sip.response_hop(message, SOURCE) == SOURCE
    assert sip.uri_hop("sip:192.0.2.9:5080;lr;transport=TCP") == Hop("192.0.2.9", 5080, "tcp")
    assert len(sip.response_to(message, 200, tag="t").headers.get("via")) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"CSeq: 7  INVITE", b"CSeq: 7 BYE"),
        (b"CSeq: 7  INVITE", b"CSeq: 99999999999 INVITE"),
        (b"CSeq: 7  INVITE\r\n", b""),
        (b"i: 1@x\r\n", b""),
        (b"t: sip:room@example.org\r\n", b""),
        (b"l: 0", b"l: 10"),
        (b"l: 0", b"l: -1"),
        (b"INVITE sip", b"IN VITE sip"),
        (b"i: 1@x", b"i: " + b"x" * 300),
    ],
)
def test_what_is_broken_is_refused(old: bytes, new: bytes) -> None:
    assert old in INVITE
    with pytest.raises(sip.MalformedMessage):
        sip.parse(INVITE.replace(old, new), SOURCE)


MUTATED = st.lists(
    st.tuples(st.integers(0, len(INVITE)), st.integers(0, 6), st.binary(max_size=6)), max_size=6
)


@given(MUTATED)
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_message_or_a_named_error(changes: list[tuple[int, int, bytes]]) -> None:
    data = INVITE
    for at, cut, put in changes:
        data = data[:at] + put + data[at + cut :]
    with contextlib.suppress(sip.MalformedMessage):
        message, _ = sip.parse(data, SOURCE)
        if isinstance(message, sip.SipRequest):
            sip.uri_user(message.uri)
            sip.uri_hop(message.uri)
            sip.response_hop(message, SOURCE)
            for name in ("from", "contact"):
                sip.name_addr(message.get_header(name) or "")
            sent = bytes(sip.response_to(message, 200, tag="t"))
            assert sent.startswith(b"SIP/2.0 200 OK\r\n")
