"""A SIP peer that does exactly what a test says: raw messages on a UDP socket."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from tests.unit.gateway.offers import BARESIP


@dataclass
class Peer(asyncio.DatagramProtocol):
    """One UDP socket; what arrives is kept in order."""

    port: int = 0
    drop: int = 0
    """How many of the next messages are lost on the way in."""
    messages: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    dropped: list[str] = field(default_factory=list)
    transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.drop:
            self.drop -= 1
            self.dropped.append(data.decode())
        else:
            self.messages.put_nowait(data.decode())

    def send(self, text: str | bytes, port: int) -> None:
        assert self.transport is not None
        self.transport.sendto(text.encode() if isinstance(text, str) else text, ("127.0.0.1", port))

    async def expect(self, start: str, within_s: float = 30.0) -> str:
        """The next message that starts so; others are passed over."""
        async with asyncio.timeout(within_s):
            while not (message := await self.messages.get()).startswith(start):
                pass
            return message

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


async def open_peer() -> Peer:
    """A peer on a free port of 127.0.0.1."""
    transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        Peer, local_addr=("127.0.0.1", 0)
    )
    peer.transport = transport
    peer.port = transport.get_extra_info("sockname")[1]
    return peer


def header(message: str, name: str) -> str:
    """The first value of a header."""
    found = re.search(rf"^{name}:[ \t]*(.*?)\r$", message, re.MULTILINE | re.IGNORECASE)
    assert found is not None, f"no {name} in {message}"
    return found.group(1)


def request(
    method: str,
    peer: Peer,
    *,
    to: str = "<sip:room@gw>",
    cseq: int = 1,
    branch: str = "z9hG4bK1",
    call_id: str = "call-1",
    body: str = "",
    uri: str = "sip:room@gw",
    extra: tuple[str, ...] = (),
) -> str:
    """A request as a proxy would pass it on."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1:{peer.port};branch={branch}",
        "Max-Forwards: 69",
        'From: "Room 1" <sip:anna@example.org>;tag=a1',
        f"To: {to}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method if method != 'ACK' else 'ACK'}",
        f"Contact: <sip:anna@127.0.0.1:{peer.port}>",
        *extra,
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body.encode())}",
        "",
        body,
    ]
    return "\r\n".join(lines)


def reply(to: str, status: str = "200 OK", body: str = "", extra: tuple[str, ...] = ()) -> str:
    """A response to a request that arrived."""
    lines = [
        f"SIP/2.0 {status}",
        *(f"{name}: {header(to, name)}" for name in ("Via", "From", "To", "Call-ID", "CSeq")),
        *extra,
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body.encode())}",
        "",
        body,
    ]
    return "\r\n".join(lines)


async def establish(
    peer: Peer, gateway_port: int, *, extra: tuple[str, ...] = (), call_id: str = "call-1"
) -> str:
    """Call the gateway until the ACK; the To value of the dialog."""
    peer.send(request("INVITE", peer, body=BARESIP, extra=extra, call_id=call_id), gateway_port)
    to = header(await peer.expect("SIP/2.0 200"), "To")
    peer.send(request("ACK", peer, to=to, branch="z9hG4bKack", call_id=call_id), gateway_port)
    return to
