"""Small clients for health checks: SIP OPTIONS (RFC 3261, section 11) over UDP."""

from __future__ import annotations

import asyncio
import secrets
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


async def sip_options(
    address: IPv4Address,
    port: int,
    timeout_s: float,
    local: IPv4Address | None = None,
    good: tuple[int, ...] = (200,),
) -> None:
    """Send OPTIONS and wait for a final answer, whose status has to be a ``good`` one.

    Raises:
        ProbeError: no answer within ``timeout_s``, or another status.
    """
    loop = asyncio.get_running_loop()
    source = (str(local), 0) if local is not None else None
    try:
        transport, datagrams = await loop.create_datagram_endpoint(
            Datagrams, local_addr=source, remote_addr=(str(address), port)
        )
    except OSError as e:
        raise ProbeError(f"can't send SIP to {address}:{port}: {e}") from None
    try:
        host, own_port = transport.get_extra_info("sockname")[:2]
        call_id = secrets.token_hex(8)
        transport.sendto(options(f"{address}:{port}", f"{host}:{own_port}", call_id))
        async with asyncio.timeout(timeout_s):
            while True:
                status, answered = status_of(await datagrams.next())
                if answered == call_id and status >= 200:
                    break
    except TimeoutError:
        raise ProbeError(f"no answer to OPTIONS within {timeout_s:g} s from {address}:{port}") from None
    finally:
        transport.close()
    if status not in good:
        raise ProbeError(f"OPTIONS to {address}:{port} was answered {status}, not {good[0]}")


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
