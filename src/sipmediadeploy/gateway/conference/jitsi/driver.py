"""The Jitsi driver: rooms of a Jitsi Meet deployment, joined natively."""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, Participant, SessionEnded
from sipmediadeploy.gateway.conference.ice import ice_servers
from sipmediadeploy.gateway.conference.jitsi import muc
from sipmediadeploy.gateway.conference.jitsi.deployment import Deployment, discover, tls_context
from sipmediadeploy.gateway.conference.jitsi.door import Key
from sipmediadeploy.gateway.conference.jitsi.jingle_sdp import Choices
from sipmediadeploy.gateway.conference.jitsi.token import BadKey, signer
from sipmediadeploy.gateway.conference.jitsi.visit import Plan, Visit
from sipmediadeploy.gateway.conference.relay_watch import relay_watch
from sipmediadeploy.gateway.conference.stay import Stay
from sipmediadeploy.gateway.media.api import MediaWorker
from sipmediadeploy.protocol.replica import ConferenceAccess

KEEP_S = 300.0
"""How long what ``config.js`` told is believed."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


class JitsiDriver:
    """Joins rooms of the Jitsi Meet at ``access.url``."""

    def __init__(self, access: ConferenceAccess, gateway: str) -> None:
        self._access = access
        self._gateway = gateway
        self._relay = relay_watch(access)
        bridge = access.bridge
        self._choices = Choices(rtx=bridge.rtx, tcc=bridge.tcc, data=bridge.data_channel)
        self._found: tuple[float, Deployment, ssl.SSLContext] | None = None
        self._finding = asyncio.Lock()

    async def join(self, who: Participant, worker: MediaWorker, ended: SessionEnded) -> Stay:
        """See :meth:`~sipmediadeploy.gateway.conference.base.Driver.join`."""
        node = muc.room_node(who.room)
        ice_servers(self._access, self._gateway)  # said before anything is begun: TURN is wanted and missing
        deployment, tls = await self._deployment()
        name = _CONTROLS.sub(" ", who.display_name).strip()[:64] or "SIP"
        guest = replace(who, display_name=name)
        machine, key = secrets.token_hex(16), Key()
        token = self._token(deployment.domain, node, name)

        def make_visit(number: int) -> Visit:
            plan = Plan(
                who=guest,
                node=node,
                worker=worker,
                deployment=deployment,
                tls=tls,
                ice=ice_servers(self._access, self._gateway),
                turn=self._access.turn != "never",
                machine=machine,
                token=token,
                choices=self._choices,
                key=key,
            )
            return Visit(plan, number)

        stay = Stay(node, make_visit, ended, self._access.alone_limit_s, self._relay)
        await stay.start()
        return stay

    async def close(self) -> None:
        """Only what ``config.js`` told and the look-out for the TURN server are shared between sessions."""
        if self._relay is not None:
            await self._relay.close()

    def _token(self, domain: str, room: str, name: str) -> Callable[[], str] | None:
        access = self._access
        if access.signing is not None:
            try:
                return signer(access.signing, domain, room, name)
            except BadKey as e:
                raise ConferenceUnavailable(f"conference.jwt.key_file: {e}") from None
        given = access.token
        return None if given is None else lambda: given

    async def _deployment(self) -> tuple[Deployment, ssl.SSLContext]:
        async with self._finding:
            now = time.monotonic()
            if self._found is None or now - self._found[0] > KEEP_S:
                tls = self._found[2] if self._found is not None else tls_context(self._access)
                self._found = (now, await discover(self._access, tls), tls)
            return self._found[1], self._found[2]
