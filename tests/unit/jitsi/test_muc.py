"""The room as presence tells it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.base import RoomRefused
from sipmediadeploy.gateway.conference.jitsi import muc, stanzas
from sipmediadeploy.gateway.conference.jitsi.muc import Left, Member, Refused, Self, Source
from sipmediadeploy.gateway.conference.jitsi.stanzas import parse_stanza

ROOM = "demo@conference.example.org"
ME = Self(ROOM, "abcd1234", "Room 5")


@pytest.mark.parametrize(
    ("room", "node"),
    [
        ("Demo", "demo"),
        ("team.meeting~1", "team.meeting~1"),
        ("Größe", "gr%c3%b6%c3%9fe"),
        ("ﬁle", "file"),
        ("a+b=c?", "abc"),
        ("two words", "two%20words"),
        ("100%", "100%25"),
        ("k\u0301", "%e1%b8%b1"),
    ],
)
def test_a_call_and_the_link_lead_into_the_same_room(room: str, node: str) -> None:
    assert muc.room_node(room) == node


@pytest.mark.parametrize("room", ["", "???", "ä" * 64])
def test_an_impossible_room_is_not_there(room: str) -> None:
    with pytest.raises(RoomRefused) as refused:
        muc.room_node(room)
    assert refused.value.status == 404


@given(st.text(max_size=30))
def test_every_room_name_is_a_valid_node(room: str) -> None:
    try:
        node = muc.room_node(room)
    except RoomRefused:
        return
    assert not set(node) & set("\"&'/:<>@ ")
    assert node == node.lower()


def test_the_endpoint_is_the_beginning_of_the_jid_where_jitsi_makes_it() -> None:
    assert muc.endpoint_id("0a1b2c3d-0000-4000@example.org/x", "ffffffff") == "0a1b2c3d"
    assert muc.endpoint_id("wGh-3kx0@example.org/x", "ffffffff") == "ffffffff"


def test_presence_tells_all_that_jicofo_and_browsers_want() -> None:
    presence = muc.presence(ME, join=True)
    assert presence.get("to") == f"{ROOM}/abcd1234"
    info = json.loads(stanzas.text_of(presence, stanzas.CLIENT, "SourceInfo") or "")
    assert info["abcd1234-a0"] == {"muted": False}
    assert info["abcd1234-v0"]["muted"] is False
    assert stanzas.text_of(presence, stanzas.NICK, "nick") == "Room 5"
    assert stanzas.find(presence, stanzas.MUC, "x") is not None
    assert stanzas.find(muc.presence(ME, join=False), stanzas.MUC, "x") is None
    caps = stanzas.find(presence, stanzas.CAPS, "c")
    assert caps is not None
    assert caps.get("ver") == stanzas.caps_hash(*muc.IDENTITY, muc.features(ME))
    listed = [x.get("var") for x in muc.disco_result(ME, "n")][1:]
    assert listed == muc.features(ME)
    assert "http://jitsi.org/json-encoded-sources" not in listed
    own = muc.parse_presence(parse_stanza(stanzas.to_text(presence).replace("to=", "from=")), ME)
    assert isinstance(own, Member)
    assert own.is_self


def presence(inner: str, endpoint: str = "ffff0000", kind: str = "") -> Member | Left | Refused | None:
    kind = f" type='{kind}'" if kind else ""
    return muc.parse_presence(
        parse_stanza(f"<presence xmlns='jabber:client' from='{ROOM}/{endpoint}'{kind}>{inner}</presence>"), ME
    )


def user(inner: str) -> str:
    return f"<x xmlns='http://jabber.org/protocol/muc#user'>{inner}</x>"


def test_a_member_has_name_rights_sources_and_codecs() -> None:
    info = (
        '{"ffff0000-a0":{"muted":true},"ffff0000-v0":{},"ffff0000-v1":{"muted":false,"videoType":"desktop"}}'
    )
    member = presence(
        "<nick xmlns='http://jabber.org/protocol/nick'>Ann</nick>"
        f"<SourceInfo>{info}</SourceInfo><jitsi_participant_codecList>vp8,H264</jitsi_participant_codecList>"
        + user("<item affiliation='owner' role='moderator' jid='ann@example.org/x'/>")
    )
    assert member == Member(
        "ffff0000",
        "Ann",
        "owner",
        "moderator",
        "ann@example.org/x",
        (
            Source("ffff0000-a0", True),
            Source("ffff0000-v0", False, "camera"),
            Source("ffff0000-v1", False, "desktop"),
        ),
        ("vp8", "h264"),
    )
    assert member.screen == "ffff0000-v1"
    assert muc.screen_shares([member]) == ["ffff0000-v1"]


@pytest.mark.parametrize("info", ["", "{", "[]", "7", '{"a":7}', '{"a":{"videoType":7}}', "[" * 99_999])
def test_a_hostile_source_info_is_passed_over(info: str) -> None:
    member = presence(f"<SourceInfo>{info}</SourceInfo>")
    assert isinstance(member, Member)
    assert member.screen is None


def test_a_muted_screen_is_no_screen() -> None:
    sources = muc.parse_source_info('{"a-v1":{"muted":true,"videoType":"desktop"}}')
    assert Member("a", "A", sources=sources).screen is None


@pytest.mark.parametrize(
    ("inner", "endpoint", "left"),
    [
        ("", "ffff0000", Left("ffff0000", False)),
        ("", "abcd1234", Left("abcd1234", True)),
        ("<status code='307'/><status code='110'/>", "abcd1234", Left("abcd1234", True, "kicked")),
        ("<status code='301'/>", "abcd1234", Left("abcd1234", True, "kicked")),
        ("<destroy><reason>over</reason></destroy>", "abcd1234", Left("abcd1234", True, "room-closed")),
        ("<status code='332'/>", "abcd1234", Left("abcd1234", True, "room-closed")),
    ],
)
def test_a_leave_tells_why(inner: str, endpoint: str, left: Left) -> None:
    assert presence(user(inner), endpoint, "unavailable") == left


@pytest.mark.parametrize(
    ("kind", "condition", "extra", "expected", "status"),
    [
        ("auth", "not-authorized", "", "password", 403),
        ("auth", "registration-required", "<lobbyroom>demo@lobby.example.org</lobbyroom>", "lobby", 403),
        ("auth", "forbidden", "", "banned", 403),
        ("cancel", "service-unavailable", "", "full", 486),
        ("wait", "resource-constraint", "", "full", 486),
        (
            "cancel",
            "not-allowed",
            "<authentication-required xmlns='http://jitsi.org/jitmeet'/>",
            "login",
            403,
        ),
        ("cancel", "not-allowed", "", "not-there", 404),
        ("cancel", "item-not-found", "", "not-there", 404),
        ("cancel", "conflict", "", "nick", 403),
        ("modify", "not-acceptable", "", "other", 403),
    ],
)
def test_a_refusal_has_a_name(kind: str, condition: str, extra: str, expected: str, status: int) -> None:
    stanzas_ns = "urn:ietf:params:xml:ns:xmpp-stanzas"
    error = f"<error type='{kind}'><{condition} xmlns='{stanzas_ns}'/>{extra}</error>"
    refused = presence(error, "abcd1234", "error")
    assert isinstance(refused, Refused)
    assert refused.kind == expected
    assert refused.error().status == status
    if expected == "lobby":
        assert refused.lobby == "demo@lobby.example.org"
    assert presence(error, "ffff0000", "error") is None


def test_what_is_not_about_the_room_is_nothing() -> None:
    other = parse_stanza("<presence xmlns='jabber:client' from='other@conference.example.org/abcd1234'/>")
    assert muc.parse_presence(other, ME) is None
    assert presence("", "") is None
    assert presence("", kind="subscribe") is None
