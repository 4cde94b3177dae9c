"""The Janus driver's pure parts."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Literal

import pytest

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, RoomRefused
from sipmediadeploy.gateway.conference.ice import ice_servers
from sipmediadeploy.gateway.conference.janus import room_id
from sipmediadeploy.gateway.conference.janus_api import JanusError, refusal, websocket_url
from sipmediadeploy.gateway.media.api import IceServers
from sipmediadeploy.protocol.replica import ConferenceAccess, TurnServer

SERVER = TurnServer(address=IPv4Address("198.18.0.3"), secret="s")


def access(turn: Literal["auto", "always", "never"], server: TurnServer | None = SERVER) -> ConferenceAccess:
    return ConferenceAccess(platform="janus", url="ws://x/", turn=turn, turn_server=server)


def test_turn_credentials_are_ephemeral_and_escaped() -> None:
    ice = ice_servers(access("auto"), "gw-0", now=1000.0)
    (uri,) = ice.turn_uris
    assert uri.startswith("turn://87400%3Agw-0:")
    assert uri.endswith("@198.18.0.3:3478?transport=udp")
    assert uri.count("@") == 1
    assert not ice.relay_only


def test_turn_always_relays_and_never_does_not() -> None:
    assert ice_servers(access("always"), "g").relay_only
    assert ice_servers(access("never"), "g") == IceServers()
    assert ice_servers(access("auto", None), "g") == IceServers()
    with pytest.raises(ConferenceUnavailable, match="TURN"):
        ice_servers(access("always", None), "g")


@pytest.mark.parametrize(("room", "same"), [("Demo", "demo"), ("büro-7", "büro-7"), ("1234", "1234")])
def test_room_names_are_one_room_in_every_case(room: str, same: str) -> None:
    assert room_id(room) == same


@pytest.mark.parametrize("room", ["", "a/b", "a b", "x" * 65, "a\n", "a?name=b", '"'])
def test_impossible_room_names_are_not_found(room: str) -> None:
    with pytest.raises(RoomRefused) as refused:
        room_id(room)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("code", "text", "status"), [(433, "Unauthorized", 403), (432, "full", 486), (429, "Missing (pin)", 403)]
)
def test_refusals_have_the_fitting_sip_status(code: int, text: str, status: int) -> None:
    error = refusal(JanusError(code, text))
    assert isinstance(error, RoomRefused)
    assert error.status == status


def test_other_errors_are_an_outage_and_say_what_to_do() -> None:
    assert isinstance(refusal(JanusError(499, "?")), ConferenceUnavailable)
    assert "string_ids" in str(refusal(JanusError(430, "Invalid element type (room)")))


def test_web_addresses_are_taken_as_websockets() -> None:
    assert websocket_url("https://host/janus") == "wss://host/janus"
    assert websocket_url("ws://host/") == "ws://host/"
