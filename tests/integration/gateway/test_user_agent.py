"""The user agent on the wire: retransmission, routing, hostile messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from sipmediadeploy.gateway.sip.api import CallRefused, DialogEvents, Hop, OfferRefused
from sipmediadeploy.gateway.sip.dialog import SipDialog
from sipmediadeploy.gateway.sip.incoming import IncomingCall
from sipmediadeploy.gateway.sip.sdp import LocalMedia, SdpError, answer_offer, make_offer
from sipmediadeploy.gateway.sip.session_timer import SessionTimer
from sipmediadeploy.gateway.sip.transaction import Timers
from sipmediadeploy.gateway.sip.ua import UserAgent
from tests.integration.gateway.wire import Peer, establish, header, open_peer, reply, request
from tests.unit.gateway.offers import BARESIP

pytestmark = pytest.mark.integration
LOCAL = LocalMedia("127.0.0.1", "127.0.0.1", 40000, 40002)
FAST = Timers(t1=0.05, t2=0.4)


@dataclass
class Gateway:
    """A user agent that answers every call, and what has happened to it."""

    ua: UserAgent
    accept: bool = True
    calls: list[IncomingCall] = field(default_factory=list)
    dialogs: list[SipDialog] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    something: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, event: str) -> None:
        self.events.append(event)
        self.something.set()

    async def until(self, event: str) -> None:
        async with asyncio.timeout(30):
            while event not in self.events:
                self.something.clear()
                await self.something.wait()

    async def offer(self, offer: str | None) -> str:
        try:
            return make_offer(LOCAL) if offer is None else answer_offer(offer, LOCAL)[0]
        except SdpError as error:
            raise OfferRefused(error.status, str(error)) from error

    def on_info(self, content_type: str, body: bytes) -> int:
        self.note(f"info {content_type} {body.decode()}")
        return 200 if content_type == "application/dtmf-relay" else 415

    def on_invite(self, call: IncomingCall) -> None:
        self.calls.append(call)
        self.note("invite")
        call.on_cancel = lambda: self.note("cancel")
        if not self.accept:
            return
        sdp = make_offer(LOCAL) if call.offer is None else answer_offer(call.offer, LOCAL)[0]
        dialog = call.accept(
            sdp,
            DialogEvents(
                bye=lambda: self.note("bye"),
                info=self.on_info,
                offer=self.offer,
                answer=lambda sdp: self.note(f"answer {sdp.splitlines()[0]}"),
                expired=lambda: self.note("expired"),
                ack_timeout=lambda: self.note("no ack"),
            ),
        )
        if dialog is not None:
            self.dialogs.append(dialog)


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    held: list[Gateway] = []
    ua = UserAgent("127.0.0.1", on_invite=lambda call: held[0].on_invite(call), timers=FAST)
    held.append(Gateway(ua))
    await ua.start()
    yield held[0]
    await ua.stop()


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = await open_peer()
    yield peer
    peer.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_goes_out_is_changed_and_ended_and_leaves_nothing(
    gateway: Gateway, transport: str
) -> None:
    client = UserAgent("127.0.0.2", timers=FAST)
    await client.start()
    hop = Hop("127.0.0.1", gateway.ua.port, "tcp" if transport == "tcp" else "udp")
    ended = asyncio.Event()
    call = await client.place(
        "sip:room@example.org",
        proxy=hop,
        offer=make_offer(LOCAL),
        events=DialogEvents(bye=ended.set),
        display_name='A "b"',
    )
    assert gateway.calls[0].user == "room"
    assert gateway.calls[0].display_name == 'A "b"'
    assert "m=audio 40000" in await call.reinvite(make_offer(LOCAL))
    assert await call.info("application/dtmf-relay", "Signal=1") == 200
    assert await gateway.dialogs[0].info("application/media_control+xml", "<x/>") == 200
    assert await gateway.dialogs[0].bye() == 200
    async with asyncio.timeout(30):
        await ended.wait()
    assert await call.bye() == 481
    assert gateway.ua.active_dialogs == client.active_dialogs == 0
    await client.stop()


async def test_a_bye_is_sent_to_the_first_route_again_until_it_is_answered(
    gateway: Gateway, peer: Peer
) -> None:
    proxy, other = await open_peer(), await open_peer()
    await establish(
        peer,
        gateway.ua.port,
        extra=(
            f"Record-Route: <sip:127.0.0.1:{proxy.port};lr;r2=on>, <sip:127.0.0.1:{other.port};lr;r2=on>",
        ),
    )
    proxy.drop = 3
    ending = asyncio.create_task(gateway.dialogs[0].bye())
    bye = await proxy.expect("BYE")
    assert len(proxy.dropped) == 3
    assert set(proxy.dropped) == {bye}
    assert bye.startswith(f"BYE sip:anna@127.0.0.1:{peer.port} SIP/2.0")
    routes = [line for line in bye.splitlines() if line.startswith("Route:")]
    assert routes == [f"Route: <sip:127.0.0.1:{p.port};lr;r2=on>" for p in (proxy, other)]
    proxy.send(reply(bye), gateway.ua.port)
    assert await ending == 200
    assert peer.messages.empty()
    assert other.messages.empty()
    assert gateway.ua.active_dialogs == 0
    proxy.close()
    other.close()


async def test_a_bye_that_nobody_answers_ends_with_408(gateway: Gateway, peer: Peer) -> None:
    proxy = await open_peer()
    await establish(peer, gateway.ua.port, extra=(f"Record-Route: <sip:127.0.0.1:{proxy.port};lr>",))
    assert await gateway.dialogs[0].bye() == 408
    assert proxy.messages.qsize() >= 8
    assert gateway.ua.active_dialogs == 0
    proxy.close()


async def test_an_info_that_nobody_answers_leaves_the_call_alone(gateway: Gateway, peer: Peer) -> None:
    to = await establish(peer, gateway.ua.port, extra=("Record-Route: <sip:127.0.0.1:9;lr;transport=tcp>",))
    assert await gateway.dialogs[0].info("application/media_control+xml", "<x/>") == 503
    peer.send(request("INVITE", peer, to=to, cseq=2, branch="z9hG4bK2", body=BARESIP), gateway.ua.port)
    assert header(await peer.expect("SIP/2.0 200"), "CSeq") == "2 INVITE"


async def test_a_2xx_is_repeated_until_the_ack(gateway: Gateway, peer: Peer) -> None:
    peer.send(request("INVITE", peer, body=BARESIP), gateway.ua.port)
    first = await peer.expect("SIP/2.0 200")
    assert await peer.expect("SIP/2.0 200") == first
    peer.send(request("ACK", peer, to=header(first, "To"), branch="z9hG4bKack"), gateway.ua.port)
    peer.send(request("OPTIONS", peer, to=header(first, "To"), cseq=2, branch="z9hG4bK2"), gateway.ua.port)
    assert header(await peer.expect("SIP/2.0 200"), "CSeq").endswith(("OPTIONS", "INVITE"))
    with pytest.raises(TimeoutError):
        await peer.expect("SIP/2.0 200 OK\r\nVia: never", within_s=FAST.t2 * 2)
    assert "no ack" not in gateway.events


async def test_a_missing_ack_is_reported_once(gateway: Gateway, peer: Peer) -> None:
    peer.send(request("INVITE", peer, body=BARESIP), gateway.ua.port)
    await gateway.until("no ack")
    assert gateway.events == ["invite", "no ack"]


async def test_a_retransmitted_invite_is_one_call(gateway: Gateway, peer: Peer) -> None:
    for _ in range(3):
        peer.send(request("INVITE", peer, body=BARESIP), gateway.ua.port)
    to = header(await peer.expect("SIP/2.0 200"), "To")
    peer.send(request("ACK", peer, to=to, branch="z9hG4bKack"), gateway.ua.port)
    assert len(gateway.calls) == 1


async def test_the_same_invite_by_another_way_is_a_loop(gateway: Gateway, peer: Peer) -> None:
    gateway.accept = False
    peer.send(request("INVITE", peer, body=BARESIP), gateway.ua.port)
    await peer.expect("SIP/2.0 100")
    peer.send(request("INVITE", peer, body=BARESIP, branch="z9hG4bKother"), gateway.ua.port)
    await peer.expect("SIP/2.0 482")
    assert len(gateway.calls) == 1


async def test_a_cancelled_call_gets_487_until_its_ack(gateway: Gateway, peer: Peer) -> None:
    gateway.accept = False
    peer.send(request("INVITE", peer, body=BARESIP), gateway.ua.port)
    await peer.expect("SIP/2.0 100")
    peer.send(request("CANCEL", peer), gateway.ua.port)
    await gateway.until("cancel")
    gone = await peer.expect("SIP/2.0 487")
    assert await peer.expect("SIP/2.0 487") == gone
    peer.send(request("ACK", peer, to=header(gone, "To")), gateway.ua.port)
    assert gateway.calls[0].accept("v=0\r\n", DialogEvents()) is None
    assert gateway.ua.active_dialogs == 0


async def test_giving_up_a_call_cancels_it(gateway: Gateway) -> None:
    gateway.accept = False
    client = UserAgent("127.0.0.2", timers=FAST)
    await client.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.place("sip:a@b", proxy=Hop("127.0.0.1", gateway.ua.port), offer=BARESIP)
    await gateway.until("cancel")
    await client.stop()


async def test_a_refused_call_says_why(gateway: Gateway) -> None:
    gateway.accept = False
    client = UserAgent("127.0.0.2", timers=FAST)
    await client.start()
    placing = asyncio.create_task(
        client.place("sip:a@b", proxy=Hop("127.0.0.1", gateway.ua.port), offer=BARESIP)
    )
    await gateway.until("invite")
    gateway.calls[0].reject(486)
    with pytest.raises(CallRefused) as refused:
        await placing
    assert refused.value.status == 486
    await client.stop()


async def test_nobody_there_is_408_by_udp_and_503_by_tcp() -> None:
    client = UserAgent("127.0.0.2", timers=Timers(t1=0.01, t2=0.05))
    await client.start()
    silent = await open_peer()
    with pytest.raises(CallRefused) as by_udp:
        await client.place("sip:a@b", proxy=Hop("127.0.0.1", silent.port), offer=BARESIP)
    with pytest.raises(CallRefused) as by_tcp:
        await client.place("sip:a@b", proxy=Hop("127.0.0.1", silent.port, "tcp"), offer=BARESIP)
    assert (by_udp.value.status, by_tcp.value.status) == (408, 503)
    silent.close()
    await client.stop()


async def test_a_delayed_offer_is_made_in_the_200_and_answered_in_the_ack(
    gateway: Gateway, peer: Peer
) -> None:
    peer.send(request("INVITE", peer), gateway.ua.port)
    ok = await peer.expect("SIP/2.0 200")
    assert "m=video 40002" in ok
    peer.send(request("ACK", peer, to=header(ok, "To"), branch="z9hG4bKa", body=BARESIP), gateway.ua.port)
    await gateway.until("answer v=0")
    peer.send(request("INVITE", peer, to=header(ok, "To"), cseq=2, branch="z9hG4bKb"), gateway.ua.port)
    ok = await peer.expect("SIP/2.0 200")
    assert header(ok, "CSeq") == "2 INVITE"
    assert "m=audio 40000" in ok


async def test_a_re_invite_that_can_not_be_met_changes_nothing(gateway: Gateway, peer: Peer) -> None:
    to = await establish(peer, gateway.ua.port)
    peer.send(
        request("INVITE", peer, to=to, cseq=2, branch="z9hG4bK2", body="v=0\r\nm=audio 0 RTP/AVP 0\r\n"),
        gateway.ua.port,
    )
    gone = await peer.expect("SIP/2.0 488")
    peer.send(request("ACK", peer, to=header(gone, "To"), cseq=2, branch="z9hG4bK2"), gateway.ua.port)
    peer.send(request("UPDATE", peer, to=to, cseq=3, branch="z9hG4bK3"), gateway.ua.port)
    assert header(await peer.expect("SIP/2.0 200"), "CSeq") == "3 UPDATE"
    assert gateway.ua.active_dialogs == 1


@pytest.mark.parametrize(("by_update", "method"), [(True, "UPDATE"), (False, "INVITE")])
async def test_the_refresher_refreshes_until_it_is_told_that_the_call_is_gone(
    gateway: Gateway, peer: Peer, by_update: bool, method: str
) -> None:
    await establish(peer, gateway.ua.port)
    dialog = gateway.dialogs[0]
    dialog.run_timer(SessionTimer(1, we_refresh=True, by_update=by_update))
    refresh = await peer.expect(method)
    assert header(refresh, "Session-Expires") == "1;refresher=uac"
    assert ("m=audio" in refresh) is not by_update
    peer.send(reply(refresh, body=BARESIP if method == "INVITE" else ""), gateway.ua.port)
    if method == "INVITE":
        assert header(await peer.expect("ACK"), "CSeq") == header(refresh, "CSeq").replace("INVITE", "ACK")
    again = await peer.expect(method)
    assert header(again, "CSeq") != header(refresh, "CSeq")
    assert "expired" not in gateway.events
    peer.send(reply(again, "481 Call/Transaction Does Not Exist"), gateway.ua.port)
    await gateway.until("expired")


async def test_a_session_that_the_other_side_does_not_refresh_expires(gateway: Gateway, peer: Peer) -> None:
    await establish(peer, gateway.ua.port)
    gateway.dialogs[0].run_timer(SessionTimer(1, we_refresh=False))
    await gateway.until("expired")


async def test_a_re_invite_while_ours_is_under_way_is_told_to_wait(gateway: Gateway, peer: Peer) -> None:
    to = await establish(peer, gateway.ua.port)
    asking = asyncio.create_task(gateway.dialogs[0].reinvite(make_offer(LOCAL)))
    ours = await peer.expect("INVITE")
    peer.send(request("INVITE", peer, to=to, cseq=2, branch="z9hG4bKglare", body=BARESIP), gateway.ua.port)
    refusal = await peer.expect("SIP/2.0 491")
    peer.send(request("ACK", peer, to=header(refusal, "To"), cseq=2, branch="z9hG4bKglare"), gateway.ua.port)
    peer.send(reply(ours, "491 Request Pending"), gateway.ua.port)
    second = await peer.expect("INVITE")
    while header(second, "CSeq") == header(ours, "CSeq"):
        second = await peer.expect("INVITE")
    peer.send(reply(second, body=BARESIP), gateway.ua.port)
    assert await asking == BARESIP


@pytest.mark.parametrize(
    ("to", "cseq", "status"),
    [
        ("{to}", 1, "500"),
        ("<sip:room@gw>;tag=wrong", 2, "481"),
        ("<sip:room@gw>", 2, "481"),
        ("{to}", 2, "200"),
    ],
)
async def test_tags_and_cseq_of_a_bye_are_checked(
    gateway: Gateway, peer: Peer, to: str, cseq: int, status: str
) -> None:
    dialog_to = await establish(peer, gateway.ua.port)
    peer.send(
        request("BYE", peer, to=to.format(to=dialog_to), cseq=cseq, branch="z9hG4bKbye"), gateway.ua.port
    )
    async with asyncio.timeout(30):
        while "BYE" not in header(answer := await peer.messages.get(), "CSeq"):
            pass
    assert answer.startswith(f"SIP/2.0 {status}")
    assert ("bye" in gateway.events) == (status == "200")


async def test_a_retransmitted_bye_is_answered_again(gateway: Gateway, peer: Peer) -> None:
    to = await establish(peer, gateway.ua.port)
    bye = request("BYE", peer, to=to, cseq=2, branch="z9hG4bKbye")
    peer.send(bye, gateway.ua.port)
    first = await peer.expect("SIP/2.0 200")
    peer.send(bye, gateway.ua.port)
    assert await peer.expect("SIP/2.0 200") == first
    assert gateway.events.count("bye") == 1


@pytest.mark.parametrize(
    ("method", "extra", "status"),
    [
        ("OPTIONS", (), "200"),
        ("SUBSCRIBE", (), "405"),
        ("FOO", (), "405"),
        ("INFO", (), "481"),
        ("CANCEL", (), "481"),
        ("INVITE", ("Require: 100rel",), "420"),
        ("INVITE", ("Content-Type: text/plain", "Content-Encoding: gzip"), "200"),
        ("INVITE", ("Session-Expires: 30", "Supported: timer"), "422"),
        ("INVITE", ("x: 1800;refresher=uac", "k: timer"), "200"),
    ],
)
async def test_requests_outside_a_dialog(
    gateway: Gateway, peer: Peer, method: str, extra: tuple[str, ...], status: str
) -> None:
    peer.send(request(method, peer, extra=extra), gateway.ua.port)
    answer = await peer.expect(f"SIP/2.0 {status}")
    if status == "405":
        assert "INVITE" in header(answer, "Allow")
    if status == "422":
        assert header(answer, "Min-SE") == "90"
    if extra and extra[0].startswith("x:"):
        assert header(answer, "Session-Expires") == "1800;refresher=uac"


async def test_responses_are_not_sent_to_a_third_party(gateway: Gateway, peer: Peer) -> None:
    victim = await open_peer()
    for parameters in (
        f"received=127.0.0.1;rport={victim.port}",
        f"rport={victim.port}",
        "received=127.0.0.9",
    ):
        text = request("OPTIONS", peer, branch=f"z9hG4bK{parameters}")
        peer.send(text.replace(";branch", f";{parameters};branch", 1), gateway.ua.port)
        await peer.expect("SIP/2.0 200")
    assert victim.messages.empty()
    victim.close()


async def test_responses_go_where_the_request_came_from_when_rport_is_asked_for(
    gateway: Gateway, peer: Peer
) -> None:
    text = request("OPTIONS", peer).replace(
        f"127.0.0.1:{peer.port};branch", "10.255.255.1:5999;rport;branch", 1
    )
    peer.send(text, gateway.ua.port)
    via = header(await peer.expect("SIP/2.0 200"), "Via")
    assert "received=127.0.0.1" in via
    assert f"rport={peer.port}" in via


def raw(start: str, via: str, *headers: str) -> bytes:
    method = start.split()[0]
    must = ("Call-ID: 1", f"CSeq: 1 {method}", "From: a;tag=1", "To: b")
    names = {h.split(":")[0] for h in headers}
    kept = [line for line in must if line.split(":")[0] not in names]
    return "\r\n".join([f"{start} SIP/2.0", f"Via: {via}", *kept, *headers, "", ""]).encode()


OPTIONS, INVITE, HERE = "OPTIONS sip:a@b", "INVITE sip:a@b", "SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK"
HOSTILE = [
    b"",
    b"\0" * 1400,
    b"\xff\xfe" * 300,
    b"INVITE\r\n\r\n",
    b"SIP/2.0 abc\r\n\r\n",
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK\r\nCSeq: 1 INVITE\r\n\r\n",
    raw(OPTIONS, HERE, *["A: b"] * 5000),
    raw(OPTIONS, ",,,", "From: ", "To: <"),
    raw(OPTIONS, "SIP/2.0/UDP h;rport=x", "CSeq: ² OPTIONS"),
    raw(OPTIONS, "SIP/2.0/UDP 127.0.0.1:99999999999999;branch=z9hG4bKport"),
    raw(OPTIONS, "SIP/2.0/UDP [::1;rport;branch="),
    raw("INVITE sip:%ff%00@b", HERE + "x"),
    raw("INVITE tel:1", HERE + "y", "Contact: <"),
    raw(INVITE, HERE + "z", "Contact: *", 'Record-Route: ,<>,"', "Session-Expires: 99999999999999999999"),
    raw(INVITE, HERE + "w", "Contact: <sip:a@b:0>", "Content-Length: 70000"),
    raw("ACK sip:a@b", "SIP/2.0/UDP 127.0.0.1:9"),
]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_hostile_messages_hurt_nobody_else(gateway: Gateway, peer: Peer, transport: str) -> None:
    to = await establish(peer, gateway.ua.port, call_id="standing")
    for data in HOSTILE:
        if transport == "udp":
            peer.send(data, gateway.ua.port)
        else:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.ua.port)
            writer.write(data)
            await writer.drain()
            writer.close()
    peer.send(
        request("UPDATE", peer, to=to, cseq=2, branch="z9hG4bKafter", call_id="standing"), gateway.ua.port
    )
    async with asyncio.timeout(30):
        while "UPDATE" not in header(answer := await peer.messages.get(), "CSeq"):
            pass
    assert answer.startswith("SIP/2.0 200")
    gateway.dialogs.clear()
    fresh = request("INVITE", peer, branch="z9hG4bKnew", call_id="new", body=BARESIP)
    peer.send(fresh, gateway.ua.port)
    async with asyncio.timeout(30):
        while not (
            (answer := await peer.messages.get()).startswith("SIP/2.0 200") and "Call-ID: new" in answer
        ):
            pass


async def test_messages_in_pieces_and_with_keepalives_between_them_are_read_from_tcp(
    gateway: Gateway,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ua.port)
    text = (
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{n}\r\n"
        "From: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\nCall-ID: {n}\r\nCSeq: {n} OPTIONS\r\nl: 3\r\n\r\nabc"
    )
    data = ("\r\n\r\n" + text.format(n=1) + "\r\n" + text.format(n=2)).encode()
    for start in range(0, len(data), 50):
        writer.write(data[start : start + 50])
        await writer.drain()
    async with asyncio.timeout(30):
        assert await reader.readline() == b"\r\n"
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 200")
    writer.close()
