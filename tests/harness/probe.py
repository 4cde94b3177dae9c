"""Asks a service address from one unchanged source port, as a terminal or a gateway does."""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import threading
import time
from types import TracebackType
from typing import Self

from sipmediadeploy.protocol import turn

EVERY_S = 0.05


class Probe:
    """Asks every 50 ms in the background; a context manager.

    Fresh ports alone would hide the callers that are stranded because they keep their 5-tuple.
    """

    port: int
    """Where it asks when it is not told."""

    def __init__(self, address: str, port: int | None = None, fresh: bool = False) -> None:
        """``fresh``: from a new port each time, as somebody who has just come."""
        self._peer = (address, port or self.port)
        self._fresh = fresh
        self._socket = self._connected()
        self._stop = threading.Event()
        self._answers: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._socket.close()

    @property
    def answered(self) -> int:
        """How many answers have come."""
        return len(self._answers)

    def longest_gap_s(self) -> float:
        """The longest time between two answers."""
        times = list(self._answers)
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    def silent_s(self) -> float:
        """For how long there has been no answer until now."""
        return time.monotonic() - self._answers[-1] if self._answers else math.inf

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.connect(self._peer)
        made.settimeout(EVERY_S)
        return made

    def _request(self, number: int) -> bytes:
        raise NotImplementedError

    def _is_answer(self, data: bytes) -> bool:
        raise NotImplementedError

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            began = time.monotonic()
            number += 1
            if self._fresh:
                self._socket.close()
                self._socket = self._connected()
            with contextlib.suppress(OSError):
                self._socket.send(self._request(number))
                if self._is_answer(self._socket.recv(4096)):
                    self._answers.append(time.monotonic())
            self._stop.wait(max(0.0, EVERY_S - (time.monotonic() - began)))


class SipProbe(Probe):
    """Asks with OPTIONS (RFC 3261, section 11)."""

    port = 5060

    def _request(self, number: int) -> bytes:
        host, port = self._socket.getsockname()
        return (
            f"OPTIONS sip:{self._peer[0]}:{self._peer[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKprobe{number};rport\r\n"
            f"From: <sip:probe@{host}>;tag=probe\r\nTo: <sip:{self._peer[0]}>\r\n"
            f"Call-ID: probe-{port}-{number}@{host}\r\nCSeq: {number} OPTIONS\r\n"
            "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def _is_answer(self, data: bytes) -> bool:
        return data.startswith(b"SIP/2.0 200")


class StunProbe(Probe):
    """Asks with Binding requests (RFC 8489)."""

    port = 3478

    def _request(self, number: int) -> bytes:
        return turn.encode(turn.BINDING, number.to_bytes(12, "big"), [])

    def _is_answer(self, data: bytes) -> bool:
        message = turn.decode(data)
        return message is not None and not message.error
