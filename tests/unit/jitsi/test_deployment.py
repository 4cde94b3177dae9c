"""Where a deployment's parts are, conference requests' answers, and the counters of stream management."""

from __future__ import annotations

import pytest

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, RoomRefused
from sipmediadeploy.gateway.conference.jitsi import conference_request
from sipmediadeploy.gateway.conference.jitsi.conference_request import Answer, Request
from sipmediadeploy.gateway.conference.jitsi.config_js import JitsiConfig
from sipmediadeploy.gateway.conference.jitsi.deployment import deployment_of, tls_context
from sipmediadeploy.gateway.conference.jitsi.smacks import MAX_UNACKED, Overflow, StreamManagement
from sipmediadeploy.gateway.conference.jitsi.stanzas import parse_stanza, to_text
from sipmediadeploy.gateway.conference.jitsi.stream import Login
from sipmediadeploy.protocol.replica import ConferenceAccess

URL = "https://meet.example.org"


def access(url: str = URL, **more: str) -> ConferenceAccess:
    return ConferenceAccess.model_validate({"platform": "jitsi", "url": url, **more})


def test_without_config_js_the_documented_defaults_hold() -> None:
    found = deployment_of(access(), None)
    assert (found.domain, found.muc) == ("meet.example.org", "conference.meet.example.org")
    assert found.focus == "focus.meet.example.org"
    assert found.websocket == "wss://meet.example.org/xmpp-websocket"
    assert found.request_url == "https://meet.example.org/conference-request/v1"


def test_what_config_js_tells_replaces_the_defaults() -> None:
    told = JitsiConfig(
        domain="meet.jitsi", muc="muc.meet.jitsi", websocket="//ws.example.org/x", focus_user="focus@auth.x"
    )
    found = deployment_of(access("http://10.0.0.1:8000/"), told)
    assert (found.domain, found.muc, found.focus) == ("meet.jitsi", "muc.meet.jitsi", "focus.meet.jitsi")
    assert found.websocket == "ws://ws.example.org/x"
    assert found.request_url is None
    assert found.focus_user == "focus@auth.x"


def test_overrides_win() -> None:
    told = JitsiConfig(domain="a", muc="b", focus="c", websocket="wss://d", request_url="https://e")
    names = {"domain": "1", "muc": "2", "focus": "3", "websocket": "wss://4/", "request_url": "https://5/"}
    found = deployment_of(access(**names), told)
    assert (found.domain, found.muc, found.focus) == ("1", "2", "3")
    assert (found.websocket, found.request_url) == ("wss://4/", "https://5/")


@pytest.mark.parametrize("url", ["", "meet.example.org", "wss://meet.example.org", "https://"])
def test_an_address_that_is_none_of_a_jitsi_is_named(url: str) -> None:
    with pytest.raises(ConferenceUnavailable, match=r"conference\.url"):
        deployment_of(access(url), None)


def test_a_ca_that_is_none_is_named() -> None:
    with pytest.raises(ConferenceUnavailable, match="ca_file"):
        tls_context(access(ca="no certificate"))


def test_the_login_carries_room_token_and_what_to_resume() -> None:
    login = Login("wss://h/x", "d", "a room", token=lambda: "a.b.c")
    assert login.url() == "wss://h/x?room=a+room&token=a.b.c"
    assert login.url("p") == "wss://h/x?room=a+room&token=a.b.c&previd=p"
    assert Login("wss://h/x?y=1", "d", "r").url() == "wss://h/x?y=1&room=r"


def test_the_focus_is_asked_without_becoming_a_visitor() -> None:
    text = to_text(conference_request.request_iq(Request("demo@muc", "m1")))
    assert 'room="demo@muc"' in text
    assert "visitors" not in text
    assert "token" not in text


def test_both_answers_of_the_focus_say_the_same() -> None:
    iq = parse_stanza(
        "<iq xmlns='jabber:client' type='result'><conference xmlns='http://jitsi.org/protocol/focus'"
        " ready='true' focusjid='focus@auth.x' room='demo@muc'>"
        "<property name='authentication' value='true'/></conference></iq>"
    )
    expected = Answer(True, "focus@auth.x", True)
    assert conference_request.answer_of_iq(iq) == expected
    text = '{"ready":true,"focusJid":"focus@auth.x","properties":{"authentication":"true"},"room":"demo@muc"}'
    assert conference_request.answer_of_json(text) == expected
    assert conference_request.answer_of_json("{}") == Answer(False)


@pytest.mark.parametrize("text", ["", "[]", "<html/>", "[" * 99_999])
def test_an_answer_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ConferenceUnavailable, match="JSON"):
        conference_request.answer_of_json(text)


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("not-authorized", RoomRefused),
        ("bad-request", RoomRefused),
        ("service-unavailable", ConferenceUnavailable),
        ("remote-server-not-found", ConferenceUnavailable),
    ],
)
def test_the_focus_s_errors_are_told_apart(condition: str, error: type[Exception]) -> None:
    assert isinstance(conference_request.refusal(condition, ""), error)


def test_what_is_not_acknowledged_is_kept_in_order() -> None:
    managed = StreamManagement()
    asked = [managed.sent(str(n)) for n in range(10)]
    assert asked.count(True) == 2
    managed.acknowledged(4)
    assert managed.unacknowledged == ("4", "5", "6", "7", "8", "9")
    managed.acknowledged(4)
    managed.acknowledged(99)  # a server that lies
    assert len(managed.unacknowledged) == 6
    managed.acknowledged(10)
    assert not managed.unacknowledged


def test_a_server_that_acknowledges_nothing_is_given_up() -> None:
    managed = StreamManagement()
    for _ in range(MAX_UNACKED):
        managed.sent("x")
    with pytest.raises(Overflow):
        managed.sent("x")
