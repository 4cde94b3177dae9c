"""TURN servers that a platform tells of (XEP-0215)."""

from __future__ import annotations

import pytest

from sipmediadeploy.gateway.conference.ice import TurnService, with_services
from sipmediadeploy.gateway.conference.jitsi.services import services_of
from sipmediadeploy.gateway.conference.jitsi.stanzas import parse_stanza
from sipmediadeploy.gateway.media.api import IceServers

GOOD = "type='turn' host='turn.example.org' port='3479' transport='tcp' username='9:u' password='p/+='"


def services(*ones: str) -> tuple[TurnService, ...]:
    inside = "".join(f"<service {one}/>" for one in ones)
    listed = f"<services xmlns='urn:xmpp:extdisco:2'>{inside}</services>"
    return services_of(parse_stanza(f"<iq xmlns='jabber:client' type='result'>{listed}</iq>"))


def test_turn_servers_are_taken_with_their_credentials_behind_our_own() -> None:
    stun = "type='stun' host='turn.example.org' port='3478' transport='udp'"
    (found,) = services(stun, GOOD, GOOD)
    ice = with_services(IceServers(("turn://ours",), relay_only=True), [found])
    assert ice.turn_uris == ("turn://ours", "turn://9%3Au:p%2F%2B%3D@turn.example.org:3479?transport=tcp")
    assert ice.relay_only


def test_what_is_left_out_has_its_default() -> None:
    (found,) = services("type='turn' host='192.0.2.7' username='u' password='p'")
    assert (found.host, found.port, found.transport) == ("192.0.2.7", 3478, "udp")
    (found,) = services("type='turn' host='2001:db8::1' username='u' password='p'")
    assert found.uri == "turn://u:p@[2001:db8::1]:3478?transport=udp"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type='turn'", "type='turns'"),
        ("username='9:u'", ""),
        ("password='p/+='", "password=''"),
        ("port='3479'", "port='0'"),
        ("port='3479'", "port='99999'"),
        ("port='3479'", "port='٣'"),
        ("transport='tcp'", "transport='sctp'"),
        ("host='turn.example.org'", ""),
        ("host='turn.example.org'", "host='a b'"),
        ("host='turn.example.org'", "host='x@y?z'"),
        ("host='turn.example.org'", "host='::g'"),
    ],
)
def test_what_is_no_usable_turn_server_is_left_out(old: str, new: str) -> None:
    assert services(GOOD.replace(old, new)) == ()


def test_a_flood_of_servers_is_cut() -> None:
    assert len(services(*(GOOD.replace("3479", str(4000 + n)) for n in range(50)))) == 4


def test_an_answer_without_services_has_none() -> None:
    assert services_of(parse_stanza("<iq xmlns='jabber:client' type='result'/>")) == ()
