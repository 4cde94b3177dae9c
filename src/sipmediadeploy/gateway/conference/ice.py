"""The ICE configuration of a stay in a conference."""

from __future__ import annotations

from urllib.parse import quote

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable
from sipmediadeploy.gateway.media.api import IceServers
from sipmediadeploy.protocol.replica import ConferenceAccess
from sipmediadeploy.protocol.secrets import turn_credentials


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
    return IceServers(
        turn_uri=f"turn://{quote(user, safe='')}:{quote(password, safe='')}"
        f"@{server.address}:{server.port}?transport=udp",
        relay_only=access.turn == "always",
    )
