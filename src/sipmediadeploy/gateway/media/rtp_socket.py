"""A pair of UDP sockets, RTP and RTCP, with symmetric sending that latches the peer's real address once.

A terminal behind NAT sends from another address than its SDP says (RFC 4961). The first valid packet after
each negotiation tells where; it is looked at by a pad probe that then takes itself off, so no Python runs per
packet. From then on the kernel drops what comes from other addresses: a stranger can't speak in the call.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from sipmediadeploy.gateway.media.api import MediaError
from sipmediadeploy.gateway.media.gstreamer import Element, Gio, Gst, GstNet, Pad, make
from sipmediadeploy.gateway.media.source_filter import admit_only

_RTCP_TYPES = range(200, 208)
_STRAGGLERS_S = 2.0
"""So long after the peer said that it moved, packets from where it was say nothing about where it is."""


class _FirstPacket:
    """A probe that stays until ``accept(address, port, first two bytes)`` says that this was the packet."""

    def __init__(self, pad: Pad, accept: Callable[[str, int, bytes], bool]) -> None:
        self._pad = pad
        self._accept = accept
        self._open = True
        self._id = pad.add_probe(Gst.PadProbeType.BUFFER, self._probe)

    def _probe(self, _pad: Pad, info: Any) -> Any:
        if not self._open:
            return Gst.PadProbeReturn.OK
        buffer = info.get_buffer()
        meta = GstNet.buffer_get_net_address_meta(buffer)
        if meta is None or not self._accept(
            meta.addr.get_address().to_string(), meta.addr.get_port(), buffer.extract_dup(0, 2)
        ):
            return Gst.PadProbeReturn.OK
        self._open = False
        return Gst.PadProbeReturn.REMOVE

    def close(self) -> None:
        if self._open:
            self._open = False
            self._pad.remove_probe(self._id)


class RtpSocket:
    """Sources and sinks of one stream on ``port`` (RTP) and ``port + 1`` (RTCP)."""

    def __init__(self, address: str, port: int, moved: Callable[[], None]) -> None:
        """Bind the ports; ``moved`` is called when the peer turns out to be elsewhere than its SDP says.

        Raises:
            MediaError: a port is taken or the address is not this machine's.
        """
        self._moved = moved
        self._sockets: list[Any] = []
        try:
            for p in (port, port + 1):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._sockets.append(Gio.Socket.new_from_fd(s.detach()))
                raw = self._sockets[-1]
                raw.bind(Gio.InetSocketAddress.new_from_string(address, p), False)
        except Exception as error:
            self.close()
            raise MediaError(f"cannot bind UDP {address}:{p}: {error}") from error
        rtp, rtcp = self._sockets
        self.rtp_src, self.rtcp_src = _source(rtp), _source(rtcp)
        self.rtp_sink, self.rtcp_sink = _sink(rtp), _sink(rtcp)
        self._payload_types: frozenset[int] = frozenset()
        self._told = self._aimed = self._left = ("", 0)
        self._stragglers_until = 0.0
        self._rtp_from: str | None = None
        self._waiting: list[_FirstPacket] = []

    @property
    def elements(self) -> tuple[Element, ...]:
        """All four elements."""
        return self.rtp_src, self.rtcp_src, self.rtp_sink, self.rtcp_sink

    def send_to(self, address: str, port: int, payload_types: frozenset[int]) -> None:
        """Send there, until the first RTP packet of ``payload_types`` shows where the peer really is.

        The same address as told before leaves the peer where it was found: a terminal behind NAT that repeats
        its SDP, perhaps while it is silent, has not moved. One that gives another address has, and what it
        still sends from the old one must not draw the call back there.
        """
        for waiting in self._waiting:
            waiting.close()
        self._admit(None)
        self._payload_types = payload_types
        if (address, port) != self._told:
            self._left, self._stragglers_until = self._aimed, time.monotonic() + _STRAGGLERS_S
            self._told, self._aimed, self._rtp_from = (address, port), (address, port), None
            _aim(self.rtp_sink, address, port)
            _aim(self.rtcp_sink, address, port + 1)
        self._waiting = [
            _FirstPacket(self.rtp_src.get_static_pad("src"), self._latch_rtp),
            _FirstPacket(self.rtcp_src.get_static_pad("src"), self._latch_rtcp),
        ]

    def _latch_rtp(self, address: str, port: int, head: bytes) -> bool:
        if len(head) < 2 or head[0] >> 6 != 2 or head[1] & 0x7F not in self._payload_types:
            return False
        if (address, port) == self._left != self._told and time.monotonic() < self._stragglers_until:
            return False
        self._rtp_from = address
        self._admit(address)
        if (address, port) != self._aimed:
            self._aimed = (address, port)
            _aim(self.rtp_sink, address, port)
            _aim(self.rtcp_sink, address, port + 1)
            self._moved()
        return True

    def _latch_rtcp(self, address: str, port: int, head: bytes) -> bool:
        if len(head) < 2 or head[0] >> 6 != 2 or head[1] not in _RTCP_TYPES or address != self._rtp_from:
            return False  # RTCP alone proves nothing: it follows RTP's address, with a port of its own
        _aim(self.rtcp_sink, address, port)
        return True

    def _admit(self, address: str | None) -> None:
        for s in self._sockets:
            admit_only(s.get_fd(), address)

    def close(self) -> None:
        """Give the ports back."""
        for s in self._sockets:
            s.close()


def _source(sock: Any) -> Element:
    return make("udpsrc", socket=sock, close_socket=False)


def _sink(sock: Any) -> Element:
    return make("udpsink", socket=sock, close_socket=False, sync=False, **{"async": False})


def _aim(sink: Element, address: str, port: int) -> None:
    sink.emit("clear")
    if address != "0.0.0.0" and port:  # the old way of saying "send nothing" (RFC 3264, section 8.4)
        sink.emit("add", address, port)
