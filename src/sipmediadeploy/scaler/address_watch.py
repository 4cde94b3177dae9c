"""Asks each service address as a caller does, from one port that does not change.

Agents tell who holds an address. Whether it is answered from outside is another matter: a neighbour's ARP
entry may be old, the network may drop, two may hold it. Callers keep their port, so probes with fresh ones
would see nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

import structlog

from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.sip_options import Question, sip_question
from sipmediadeploy.stack import Role

INTERVAL_S = 0.5
REOPEN_S = 5.0
_log = structlog.get_logger(__name__)

QUESTIONS: Mapping[Role, Question] = {Role.KAMAILIO: sip_question, Role.COTURN: turn.stun_question}


class _Caller(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self._heard(data)

    def error_received(self, _exc: Exception) -> None:
        """Nobody listens there just now: there is no answer, and that is what is noticed."""


class AddressWatch:
    """Asks all the time; :meth:`silent_s` says for how long there was no answer."""

    def __init__(self, addresses: Mapping[Role, tuple[IPv4Address, int]]) -> None:
        """``addresses``: where each role's callers call, by role."""
        self._addresses = addresses
        self._answered_at: dict[Role, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def silent_s(self, role: Role) -> float | None:
        """Seconds since the address of ``role`` was asked the question that it answered last; None: it never
        was answered, or is not watched.
        """
        at = self._answered_at.get(role)
        return None if at is None else asyncio.get_running_loop().time() - at

    def start(self) -> None:
        """Begin to ask."""
        self._tasks = [
            asyncio.create_task(self._watch(role, address, port), name=f"watch-{role}")
            for role, (address, port) in self._addresses.items()
        ]

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, role: Role, address: IPv4Address, port: int) -> None:
        asked: dict[float, Callable[[bytes], bool]] = {}

        def heard(datagram: bytes) -> None:
            for at, answers in list(asked.items()):
                if answers(datagram):
                    self._answered_at[role] = max(at, self._answered_at.get(role, 0.0))
                    del asked[at]

        loop = asyncio.get_running_loop()
        while True:
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Caller(heard), remote_addr=(str(address), port)
                )
            except OSError as e:
                _log.warning("service address can't be asked", role=role, error=str(e))
                await asyncio.sleep(REOPEN_S)
                continue
            try:
                own = "{}:{}".format(*transport.get_extra_info("sockname")[:2])
                while not transport.is_closing():
                    now = loop.time()
                    question, answers = QUESTIONS[role](f"{address}:{port}", own)
                    for old in [at for at in asked if now - at > 2 * INTERVAL_S]:
                        del asked[old]
                    asked[now] = answers
                    transport.sendto(question)
                    await asyncio.sleep(INTERVAL_S)
            finally:
                transport.close()
