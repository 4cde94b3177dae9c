"""The ICE configuration of a stay in a conference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import quote

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable
from sipmediadeploy.gateway.media.api import IceServers
from sipmediadeploy.protocol.replica import ConferenceAccess
from sipmediadeploy.protocol.secrets import turn_credentials


@dataclass(frozen=True, slots=True)
class TurnService:
    """A TURN server with credentials (RFC 8656)."""

    host: str
    port: int
    transport: str
    username: str
    password: str

    @property
    def uri(self) -> str:
        """As :class:`~sipmediadeploy.gateway.media.api.IceServers` has it."""
        user, password = quote(self.username, safe=""), quote(self.password, safe="")
        return f"turn://{user}:{password}@{self.host}:{self.port}?transport={self.transport}"


def with_services(ice: IceServers, services: Iterable[TurnService]) -> IceServers:
    """The configuration with the platform's own TURN servers behind those that are in it."""
    return replace(ice, turn_uris=(*ice.turn_uris, *(service.uri for service in services)))


def ice_servers(access: ConferenceAccess, gateway: str, now: float | None = None) -> IceServers:
    """The ICE configuration of one visit, with TURN credentials of its own.

    Raises:
        ConferenceUnavailable: TURN is demanded and there is no server.
    """
    server = access.turn_server
    if access.turn == "never":
        return IceServers()
    if server is None:
        if access.turn == "always":
            raise ConferenceUnavailable("turn is 'always' and no TURN server is known")
        return IceServers()
    user, password = turn_credentials(server.secret, gateway, now=now)
    own = TurnService(str(server.address), server.port, "udp", user, password)
    return IceServers((own.uri,), relay_only=access.turn == "always")
