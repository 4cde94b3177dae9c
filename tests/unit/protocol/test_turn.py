from __future__ import annotations

import asyncio
import struct
from ipaddress import IPv4Address
from typing import cast

import pytest

from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.sip_options import ProbeError, status_of

LOOPBACK = IPv4Address("127.0.0.1")


def test_a_message_is_read_back_as_it_was_written() -> None:
    data = turn.encode(turn.ALLOCATE, b"0123456789ab", [(turn.USERNAME, b"abc"), (turn.NONCE, b"nonce")])
    message = turn.decode(data)
    assert message is not None
    assert message.kind == turn.ALLOCATE
    assert message.attributes == {turn.USERNAME: b"abc", turn.NONCE: b"nonce"}
    assert len(data) % 4 == 0


def test_message_integrity_is_the_one_of_rfc_5769() -> None:
    """RFC 5769, section 2.4: a request with long-term authentication."""
    sample = bytes.fromhex(
        "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aa"
        "e38383e382afe382b90000"
        "0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473 41"
        "0014000b6578616d706c652e6f726700"
        "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666".replace(" ", "")
    )
    message = turn.decode(sample)
    assert message is not None
    import hashlib

    user = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
    key = hashlib.md5(f"{user}:example.org:TheMatrIX".encode()).digest()
    attributes = [(k, v) for k, v in message.attributes.items() if k != turn.MESSAGE_INTEGRITY]
    assert turn.encode(1, message.transaction, attributes, key) == sample


@pytest.mark.parametrize("data", [b"", b"x" * 19, b"x" * 40, bytes.fromhex("0001ffff2112a442") + bytes(12)])
def test_what_is_not_stun_is_nothing(data: bytes) -> None:
    assert turn.decode(data) is None


def test_the_relayed_address_is_unmasked() -> None:
    value = (
        bytes([0, 1])
        + (0xC000 ^ 0x2112).to_bytes(2)
        + (int(IPv4Address("192.0.2.1")) ^ turn.MAGIC).to_bytes(4)
    )
    message = turn.Message(0, b"", {turn.XOR_RELAYED_ADDRESS: value})
    assert turn.relayed_address(message) == (IPv4Address("192.0.2.1"), 0xC000)
    with pytest.raises(ProbeError):
        turn.relayed_address(turn.Message(0, b"", {}))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (b"SIP/2.0 200 OK\r\nCall-ID: abc\r\n\r\n", (200, "abc")),
        (b"SIP/2.0 503 Full\r\ni: abc\r\n\r\n", (503, "abc")),
        (b"OPTIONS sip:x SIP/2.0\r\nCall-ID: abc\r\n\r\n", (0, "")),
        (b"\xff\xfe", (0, "")),
        (b"", (0, "")),
    ],
)
def test_a_sip_status_is_read_and_rubbish_is_not(text: bytes, result: tuple[int, str]) -> None:
    assert status_of(text) == result


class SlowServer(asyncio.DatagramProtocol):
    """Takes the newest nonce only, and gives one with each refusal; late ones in the beginning."""

    def __init__(self, late_answers: int) -> None:
        self._late = late_answers
        self._nonces = 0
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = turn.decode(data)
        assert request is not None
        nonce = request.attributes.get(turn.NONCE)
        if nonce == b"nonce-%d" % self._nonces:
            relayed = struct.pack("!BBHI", 0, 1, 49160 ^ (turn.MAGIC >> 16), int(LOOPBACK) ^ turn.MAGIC)
            answer = turn.encode(
                request.kind | 0x0100, request.transaction, [(turn.XOR_RELAYED_ADDRESS, relayed)]
            )
        else:
            self.refused += 1
            self._nonces += 1
            attributes = [
                (turn.ERROR_CODE, b"\0\0\x04\x01"),
                (turn.REALM, b"sip.test"),
                (turn.NONCE, b"nonce-%d" % self._nonces),
            ]
            answer = turn.encode(request.kind | 0x0110, request.transaction, attributes)
        late, self._late = self._late > 0, self._late - 1
        asyncio.get_running_loop().call_later(0.2 if late else 0.0, self.transport.sendto, answer, addr)


@pytest.mark.parametrize("late", [0, 1, 2])
async def test_a_question_that_was_sent_twice_does_not_make_a_server_look_ill(late: int) -> None:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: SlowServer(late), local_addr=(str(LOOPBACK), 0)
    )
    port = transport.get_extra_info("sockname")[1]
    address, relayed = await turn.allocate(LOOPBACK, port, "secret", 10.0)
    transport.close()
    assert (address, relayed) == (LOOPBACK, 49160)
    assert server.refused >= 1 + min(late, 1)
