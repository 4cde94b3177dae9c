"""A TURN client for health checks: one allocation, made and given back (RFC 8489, RFC 8656; UDP)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from sipmediadeploy.protocol.secrets import turn_credentials
from sipmediadeploy.protocol.sip_options import Datagrams, Line, ProbeError

MAGIC = 0x2112A442
BINDING, ALLOCATE, REFRESH = 0x0001, 0x0003, 0x0004
_SUCCESS, _ERROR = 0x0100, 0x0110
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, LIFETIME = 0x0006, 0x0008, 0x0009, 0x000D
REALM, NONCE, XOR_RELAYED_ADDRESS, REQUESTED_TRANSPORT = 0x0014, 0x0015, 0x0016, 0x0019
_UDP = b"\x11\0\0\0"
_RETRANSMIT_S = 0.15
_TRIES, _NEW_NONCE = 2, (401, 438)
"""A request with a nonce that is not the newest is refused so (RFC 8489, section 9.2.5)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A STUN message: its type, transaction and attributes (the first of each kind)."""

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]

    @property
    def error(self) -> int:
        """The error code (RFC 8489, section 14.8); 0 when there is none."""
        value = self.attributes.get(ERROR_CODE, b"")
        return (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0


def encode(
    kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], key: bytes | None = None
) -> bytes:
    """A STUN message; with ``key`` it ends in MESSAGE-INTEGRITY (RFC 8489, section 14.5)."""
    body = b"".join(_attribute(name, value) for name, value in attributes)
    if key is None:
        return struct.pack("!HHI", kind, len(body), MAGIC) + transaction + body
    signed = struct.pack("!HHI", kind, len(body) + 24, MAGIC) + transaction + body
    return signed + _attribute(MESSAGE_INTEGRITY, hmac.new(key, signed, hashlib.sha1).digest())


def decode(data: bytes) -> Message | None:
    """The message in ``data``; None when it is not a STUN message."""
    if len(data) < 20:
        return None
    kind, length, magic = struct.unpack("!HHI", data[:8])
    if magic != MAGIC or len(data) < 20 + length:
        return None
    attributes: dict[int, bytes] = {}
    at = 20
    while at + 4 <= 20 + length:
        name, size = struct.unpack("!HH", data[at : at + 4])
        attributes.setdefault(name, data[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return Message(kind, data[8:20], attributes)


def relayed_address(message: Message) -> tuple[IPv4Address, int]:
    """XOR-RELAYED-ADDRESS (RFC 8656, section 18.5).

    Raises:
        ProbeError: there is none.
    """
    value = message.attributes.get(XOR_RELAYED_ADDRESS, b"")
    if len(value) != 8:
        raise ProbeError("an allocation without a relayed address")
    port, address = struct.unpack("!HI", value[2:])
    return IPv4Address(address ^ MAGIC), port ^ (MAGIC >> 16)


async def binding(line: Line, timeout_s: float) -> None:
    """One Binding request over a line to the server.

    Raises:
        ProbeError: no success response within ``timeout_s``.
    """
    answer = decode(await line.ask(stun_question, timeout_s))
    if answer is None or answer.kind != BINDING | _SUCCESS:
        raise ProbeError(f"STUN Binding was answered with error {answer.error if answer else 0}")


def stun_question(_target: str, _own: str) -> tuple[bytes, Callable[[bytes], bool]]:
    """A STUN Binding request (RFC 8489, section 3)."""
    transaction = secrets.token_bytes(12)

    def answers(datagram: bytes) -> bool:
        message = decode(datagram)
        return message is not None and message.transaction == transaction

    return encode(BINDING, transaction, []), answers


async def allocate(server: IPv4Address, port: int, secret: str, timeout_s: float) -> tuple[IPv4Address, int]:
    """Make an allocation with ephemeral credentials made from ``secret``, and give it back.

    Returns the relayed address and port.

    Raises:
        ProbeError: no allocation within ``timeout_s``.
    """
    user, password = turn_credentials(secret, "health", lifetime_s=60)
    async with _Client(server, port, timeout_s) as client:
        refused = await client.ask(ALLOCATE, [(REQUESTED_TRANSPORT, _UDP)])
        if refused.error != 401:
            raise ProbeError(f"an allocation without credentials was answered {refused.error}, not 401")
        for _ in range(_TRIES):
            realm, nonce = refused.attributes.get(REALM, b""), refused.attributes.get(NONCE, b"")
            # RFC 8489, section 9.2.2: the long-term key.
            key = hashlib.md5(b":".join([user.encode(), realm, password.encode()])).digest()  # noqa: S324
            signed_by = [(USERNAME, user.encode()), (REALM, realm), (NONCE, nonce)]
            answer = await client.ask(ALLOCATE, [(REQUESTED_TRANSPORT, _UDP), *signed_by], key)
            if answer.error not in _NEW_NONCE or answer.attributes.get(NONCE, nonce) == nonce:
                break
            # A question that was sent twice, to a server that was slow, had two answers with a nonce each.
            refused = answer
        if answer.kind != ALLOCATE | _SUCCESS:
            raise ProbeError(f"the allocation was refused with error {answer.error}")
        address = relayed_address(answer)
        await client.ask(REFRESH, [(LIFETIME, bytes(4)), *signed_by], key)
        return address


class _Client:
    """A connected UDP socket with one deadline for everything that is asked."""

    def __init__(self, server: IPv4Address, port: int, timeout_s: float) -> None:
        self._server = (str(server), port)
        self._timeout_s = timeout_s
        self._deadline = 0.0

    async def __aenter__(self) -> _Client:
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._timeout_s
        try:
            self._transport, self._datagrams = await loop.create_datagram_endpoint(
                Datagrams, remote_addr=self._server
            )
        except OSError as e:
            raise ProbeError(f"can't send to {self._server[0]}:{self._server[1]}: {e}") from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()

    async def ask(self, kind: int, attributes: list[tuple[int, bytes]], key: bytes | None = None) -> Message:
        """Send a request until it is answered or the deadline has come.

        Raises:
            ProbeError: no answer in time, or nothing listens.
        """
        transaction = secrets.token_bytes(12)
        request = encode(kind, transaction, attributes, key)
        loop = asyncio.get_running_loop()
        while (left := self._deadline - loop.time()) > 0:
            self._transport.sendto(request)
            try:
                async with asyncio.timeout(min(_RETRANSMIT_S, left)):
                    while True:
                        answer = decode(await self._datagrams.next())
                        if answer is not None and answer.transaction == transaction:
                            return answer
            except TimeoutError:
                continue
        raise ProbeError(f"no answer within {self._timeout_s:g} s from {self._server[0]}:{self._server[1]}")


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4)
