"""Whether this replica still hears anybody on its network.

A replica whose network fails in one direction may still send: its announcements keep the service address here
while no caller's packet arrives, and its own health checks, which are local, see nothing of it. So it asks
its neighbours, by opening a TCP connection that may as well be refused. A neighbour that has answered once is
a *witness*. One witness is asked all the time, and when it is silent all are. When all fail to answer, twice
in a row, it is this replica that is cut off.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from sipmediadeploy.node.ticks import tick

ANSWER_S = 0.12
"""Kernels answer, in far less than that, however busy the machine is."""
LATE_S = 0.1
EVERY_S, STANDBY_S, AGAIN_S = 0.1, 0.25, 0.02
"""After a round with an answer: where the address is, and where it is not. After a round without."""
TWICE = 2
"""So many questions each witness is asked side by side, once one is silent: a lost packet is no proof."""
STRANGERS_EVERY = 100
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
        self._favourite: Target | None = None
        """The first in the list that answered last time."""
        self._rounds = 0
        self._silent_rounds = 0

    @property
    def isolated(self) -> bool:
        """All witnesses, of whom there must be two at least, have been silent in the last rounds.

        One alone may be the one that is dead.
        """
        return len(self._witnesses) >= 2 and self._silent_rounds >= ROUNDS

    async def run(self, changed: Callable[[], None], holds: Callable[[], bool]) -> None:
        """Ask for ever; ``changed`` is called when :attr:`isolated` has changed.

        ``holds``: whether this replica holds the service address, and must be quick.
        """
        while True:
            before = self.isolated
            heard = await self.round()
            if self.isolated != before:
                changed()
            if heard:
                await tick(EVERY_S if holds() else STANDBY_S)
            else:
                await asyncio.sleep(AGAIN_S)

    async def round(self) -> bool:
        """Ask one witness, and when it is silent everybody; whether somebody answered.

        A round in which this process was not run in time shows nothing: its time limits were over, not the
        others' answers missing.
        """
        strangers = self._rounds % STRANGERS_EVERY == 0
        self._rounds += 1
        if self._favourite is not None and not strangers:
            if await self._ask(self._favourite):
                self._silent_rounds = 0
                return True
            self._favourite = None
        clock = asyncio.get_running_loop().time
        began = clock()
        asked = list(self._targets) if strangers else [*self._witnesses] * TWICE
        answered = await asyncio.gather(*(self._ask(target) for target in asked))
        heard = {target for target, answer in zip(asked, answered, strict=True) if answer}
        self._witnesses |= heard
        self._favourite = next((target for target in self._targets if target in heard), None)
        if heard:
            self._silent_rounds = 0
        elif clock() - began <= ANSWER_S + LATE_S:
            self._silent_rounds += 1
        return bool(heard)


async def answers(target: Target) -> bool:
    """Whether the machine of ``target`` answers: accepting a connection and refusing it are both answers."""
    address, port = target
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
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
