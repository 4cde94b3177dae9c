"""Whether this replica still hears anybody on its network.

A replica whose network fails in one direction may still send: its announcements keep the service address here
while no caller's packet arrives, and its own health checks, which are local, see nothing of it. So it asks
its neighbours, by opening a TCP connection that may as well be refused. Who has answered once is a *witness*;
when all witnesses fail to answer, twice in a row, it is this replica that is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

ANSWER_S = 0.2
"""Kernels answer, in far less than that, however busy the machine is."""
LATE_S = 0.1
EVERY_S, AGAIN_S = 0.25, 0.05
"""After a round in which somebody answered, and in which nobody did."""
STRANGERS_EVERY = 40
"""Who is no witness is asked in every so many-eth round."""
ROUNDS = 2
DISCARD_PORT = 9
_ROUTES = Path("/proc/net/route")
_GATEWAY_FLAG = 2

Target = tuple[IPv4Address, int]
Ask = Callable[[Target], Awaitable[bool]]


class Witnesses:
    """Asks neighbours all the time."""

    def __init__(self, targets: Sequence[Target], ask: Ask | None = None) -> None:
        """``targets``: address and TCP port of each neighbour; the port need not be open."""
        self._targets = tuple(targets)
        self._ask = ask or answers
        self._witnesses: set[Target] = set()
        self._rounds = 0
        self._silent_rounds = 0

    @property
    def isolated(self) -> bool:
        """All witnesses, of whom there must be two at least, have been silent in the last rounds.

        One alone may be the one that is dead.
        """
        return len(self._witnesses) >= 2 and self._silent_rounds >= ROUNDS

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            heard = await self.round()
            await asyncio.sleep(EVERY_S if heard else AGAIN_S)

    async def round(self) -> bool:
        """Ask everybody once; whether somebody answered.

        A round in which this process was not run in time shows nothing: its time limits were over, not the
        others' answers missing.
        """
        clock = asyncio.get_running_loop().time
        began, strangers = clock(), self._rounds % STRANGERS_EVERY == 0
        asked = [target for target in self._targets if strangers or target in self._witnesses]
        self._rounds += 1
        answered = await asyncio.gather(*(self._ask(target) for target in asked))
        heard = {target for target, answer in zip(asked, answered, strict=True) if answer}
        self._witnesses |= heard
        if heard:
            self._silent_rounds = 0
        elif clock() - began <= ANSWER_S + LATE_S:
            self._silent_rounds += 1
        return bool(heard)


async def answers(target: Target) -> bool:
    """Whether the machine of ``target`` answers: accepting a connection and refusing it are both answers."""
    address, port = target
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(str(address), port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def default_gateway(routes: str | None = None) -> IPv4Address | None:
    """The default gateway by the text of ``/proc/net/route``."""
    try:
        text = _ROUTES.read_text(encoding="ascii") if routes is None else routes
    except OSError:
        return None
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[1] == "00000000" and int(fields[3], 16) & _GATEWAY_FLAG:
            return IPv4Address(socket.inet_ntoa(struct.pack("=I", int(fields[2], 16))))
    return None
