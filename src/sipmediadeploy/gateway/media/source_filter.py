"""A socket filter in the kernel: of a UDP socket's packets only those from one address come through.

It costs nothing per packet in the worker. The program is classic BPF (Linux, socket(7), SO_ATTACH_FILTER).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SOURCE_ADDRESS = 0xFFF00000 + 12
"""SKF_NET_OFF (the network header), and in an IPv4 header the source (RFC 791)."""
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


def admit_only(fd: int, address: str | None) -> None:
    """Let packets from the IPv4 address ``address`` alone reach the socket ``fd``; None: all packets.

    Raises:
        OSError: the kernel refuses it.
    """
    with socket.socket(fileno=os.dup(fd)) as sock:
        if address is None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            except FileNotFoundError:
                pass  # there was none
            return
        wanted = int.from_bytes(socket.inet_aton(address))
        program = b"".join(
            struct.pack("HBBI", *instruction)
            for instruction in (
                (_LOAD_WORD, 0, 0, _SOURCE_ADDRESS),
                (_JUMP_IF_EQUAL, 0, 1, wanted),
                (_RETURN, 0, 0, 0xFFFFFFFF),
                (_RETURN, 0, 0, 0),
            )
        )
        code = ctypes.create_string_buffer(program, len(program))
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(code))
        )
