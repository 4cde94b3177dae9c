"""Small clients for health checks: SIP OPTIONS (RFC 3261, section 11) over UDP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from ipaddress import IPv4Address


class ProbeError(Exception):
    """The probe failed. The message says how, in an operator's words."""


class Datagrams(asyncio.DatagramProtocol):
    """One connected UDP socket: datagrams and errors in a queue."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes | Exception] = asyncio.Queue(maxsize=64)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002
        """Queue a datagram; when nobody reads them, drop it."""
        if not self.received.full():
            self.received.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """Queue an ICMP error."""
        if not self.received.full():
            self.received.put_nowait(exc)

    async def next(self) -> bytes:
        """The next datagram.

        Raises:
            ProbeError: the other side refused it (ICMP).
        """
        item = await self.received.get()
        if isinstance(item, Exception):
            raise ProbeError(f"nothing listens ({item})")
        return item


Question = Callable[[str, str], tuple[bytes, Callable[[bytes], bool]]]
"""``question(target, own)``, both ``ADDRESS:PORT``: a request, and what tells its answer from others."""


class Line:
    """Asks one address again and again, over one UDP socket that is kept: that costs a tenth of a new one."""

    def __init__(self, address: IPv4Address, port: int, local: IPv4Address | None = None) -> None:
        """``local``: the address to ask from; the port is any that is free."""
        self._target = str(address), port
        self._source = (str(local), 0) if local is not None else None
        self._open: tuple[asyncio.DatagramTransport, Datagrams, str] | None = None

    async def ask(self, question: Question, timeout_s: float) -> bytes:
        """Ask once, and wait for the answer. Not for two tasks at a time.

        Raises:
            ProbeError: no answer within ``timeout_s``, or nothing listens.
        """
        target = "{}:{}".format(*self._target)
        transport, datagrams, own = await self._opened(target)
        while not datagrams.received.empty():  # late answers to earlier questions
            datagrams.received.get_nowait()
        request, answers = question(target, own)
        transport.sendto(request)
        try:
            async with asyncio.timeout(timeout_s):
                while not answers(datagram := await datagrams.next()):
                    pass
        except TimeoutError:
            raise ProbeError(f"no answer within {timeout_s:g} s from {target}") from None
        return datagram

    def close(self) -> None:
        """Close the socket; the next question opens another one."""
        if self._open is not None:
            self._open[0].close()
            self._open = None

    async def _opened(self, target: str) -> tuple[asyncio.DatagramTransport, Datagrams, str]:
        if self._open is not None and not self._open[0].is_closing():
            return self._open
        try:
            transport, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(
                Datagrams, local_addr=self._source, remote_addr=self._target
            )
        except OSError as e:
            raise ProbeError(f"can't send to {target}: {e}") from None
        own = "{}:{}".format(*transport.get_extra_info("sockname")[:2])
        self._open = transport, datagrams, own
        return self._open


async def sip_options(address: IPv4Address, port: int, timeout_s: float) -> None:
    """Ask once with OPTIONS, over a socket of its own; see :func:`ask_options`."""
    line = Line(address, port)
    try:
        await ask_options(line, timeout_s)
    finally:
        line.close()


async def ask_options(line: Line, timeout_s: float, good: tuple[int, ...] = (200,)) -> None:
    """Send OPTIONS and wait for a final answer, whose status has to be a ``good`` one.

    Raises:
        ProbeError: no answer within ``timeout_s``, or another status.
    """
    status, _ = status_of(await line.ask(sip_question, timeout_s))
    if status not in good:
        raise ProbeError(f"OPTIONS was answered {status}, not {good[0]}")


def sip_question(target: str, own: str) -> tuple[bytes, Callable[[bytes], bool]]:
    """SIP OPTIONS (RFC 3261, section 11); any final answer will do."""
    call_id = secrets.token_hex(8)

    def answers(datagram: bytes) -> bool:
        status, answered = status_of(datagram)
        return answered == call_id and status >= 200

    return options(target, own, call_id), answers


def options(target: str, own: str, call_id: str) -> bytes:
    """An OPTIONS request from ``own`` to ``target``, both ``ADDRESS:PORT``."""
    return (
        f"OPTIONS sip:{target} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{call_id};rport\r\n"
        "Max-Forwards: 1\r\n"
        f"From: <sip:health@{own}>;tag={call_id[:8]}\r\n"
        f"To: <sip:{target}>\r\n"
        f"Call-ID: {call_id}\r\n"
        "CSeq: 1 OPTIONS\r\n"
        f"Contact: <sip:health@{own}>\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def status_of(message: bytes) -> tuple[int, str]:
    """Status and Call-ID of a SIP response; (0, "") of anything else."""
    lines = message.split(b"\r\n\r\n", 1)[0].decode("utf-8", "replace").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or parts[0] != "SIP/2.0" or not parts[1].isdigit():
        return 0, ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("call-id", "i"):
            return int(parts[1]), value.strip()
    return int(parts[1]), ""
