"""SIP over UDP and TCP: bytes of whole messages in and out (RFC 3261, section 18)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import structlog

from sipmediadeploy.gateway.sip.api import Hop

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 512
MAX_HEADER_BYTES = 65_536
MAX_BODY_BYTES = 1_048_576
CONNECT_S = 5.0
MESSAGE_S = 30.0
"""A message that has begun must be complete by then."""

Received = Callable[[bytes, Hop], None]


class FramingError(Exception):
    """The stream can't be cut into messages any more: the connection is closed."""


class Sockets:
    """One UDP socket and one TCP listener on the same port."""

    def __init__(self, address: str, port: int, received: Received) -> None:
        self.address = address
        self.port = port
        self._received = received
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._streams: dict[tuple[str, int], asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind; port 0 takes one that is free for both.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            self._server = await asyncio.start_server(self._accepted, self.address, self.port)
            port = int(self._server.sockets[0].getsockname()[1])
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._received), local_addr=(self.address, port)
                )
            except OSError:
                self._server.close()
                if self.port or attempt == 19:
                    raise
                continue
            self.port = port
            return

    async def resolve(self, hop: Hop) -> Hop:
        """The hop with an IPv4 address; on TCP also a connection to it.

        Raises:
            OSError: there is no such host, or nobody listens.
        """
        host = hop.host
        if not 0 < hop.port < 65536:
            raise OSError(f"no port: {hop.port}")
        if not _is_ipv4(host):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, hop.port, family=socket.AF_INET)
            host = str(found[0][4][0])
        resolved = Hop(host, hop.port, hop.transport)
        if hop.transport == "tcp" and not self.connected(resolved):
            await self._connect(resolved)
        return resolved

    def connected(self, hop: Hop) -> bool:
        """Whether there is an open TCP connection to exactly this address and port."""
        writer = self._streams.get((hop.host, hop.port))
        return writer is not None and not writer.is_closing()

    def drop(self, hop: Hop) -> None:
        """Close the TCP connection to ``hop``, if any."""
        if (writer := self._streams.pop((hop.host, hop.port), None)) is not None:
            writer.close()

    def send(self, data: bytes, hop: Hop) -> None:
        """Send a message; never blocks and never raises: what gets lost is the transactions' business."""
        if not _reachable(hop):
            # A port out of range closes asyncio's UDP socket for good; a name would block the event loop.
            log.warning("sip message not sent", to=f"{hop.host}:{hop.port}", error="no IPv4 address and port")
        elif hop.transport == "udp":
            if self._udp is not None and not self._udp.is_closing():
                self._udp.sendto(data, (hop.host, hop.port))
        elif self.connected(hop):
            self._streams[hop.host, hop.port].write(data)
        else:
            self.spawn(self._connect_and_send(data, hop))

    def spawn(self, work: Any) -> None:
        """Run a coroutine in the background until :meth:`stop`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Close everything."""
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        for writer in self._streams.values():
            writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect_and_send(self, data: bytes, hop: Hop) -> None:
        try:
            await self._connect(hop)
        except OSError as error:
            log.warning("sip message not sent", to=f"{hop.host}:{hop.port}", error=str(error))
        else:
            self._streams[hop.host, hop.port].write(data)

    async def _connect(self, hop: Hop) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    hop.host, hop.port, local_addr=(self.address, 0)
                )
        except TimeoutError as error:
            raise OSError(f"no TCP connection within {CONNECT_S:g} s") from error
        self._streams[hop.host, hop.port] = writer
        self.spawn(self._read(reader, writer, hop))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")[:2]
        if len(self._streams) >= MAX_CONNECTIONS:
            log.warning("sip connection refused", peer=f"{host}:{port}", connections=len(self._streams))
            writer.close()
            return
        self._streams[host, port] = writer
        self.spawn(self._read(reader, writer, Hop(host, port, "tcp")))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Hop) -> None:
        try:
            while (data := await _read_message(reader, writer)) is not None:
                self._received(data, peer)
        except (FramingError, TimeoutError, OSError, EOFError, ValueError) as error:
            log.info("sip connection closed", peer=f"{peer.host}:{peer.port}", error=str(error))
        finally:
            if self._streams.get((peer.host, peer.port)) is writer:
                del self._streams[peer.host, peer.port]
            with contextlib.suppress(Exception):
                writer.close()


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _reachable(hop: Hop) -> bool:
    return 0 < hop.port < 65536 and _is_ipv4(hop.host)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Received) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.strip(b"\r\n\0"):  # else a keep-alive (RFC 5626, section 3.5.1)
            self._received(data, Hop(addr[0], addr[1], "udp"))


async def _read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The next message of a stream, None at its end (RFC 3261, section 18.3)."""
    line = await reader.readline()
    while line in (b"\r\n", b"\n"):
        # Two line ends are a ping, one the pong (RFC 5626, section 3.5.1).
        line = await reader.readline()
        if line in (b"\r\n", b"\n"):
            writer.write(b"\r\n")
            line = await reader.readline()
    if not line:
        return None
    async with asyncio.timeout(MESSAGE_S):
        head = bytearray(line)
        length: int | None = None
        while line not in (b"\r\n", b"\n"):
            line = await reader.readline()
            head += line
            if not line or len(head) > MAX_HEADER_BYTES:
                raise FramingError("a header that does not end")
            name, _, value = line.partition(b":")
            if name.strip().lower() in (b"content-length", b"l"):
                length = int(value)
        if length is None or not 0 <= length <= MAX_BODY_BYTES:
            raise FramingError("no usable Content-Length")
        return bytes(head) + await reader.readexactly(length)
