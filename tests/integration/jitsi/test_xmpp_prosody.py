"""The XMPP client and the room's presence against a real Prosody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from sipmediadeploy.gateway.conference.jitsi import muc, stanzas
from sipmediadeploy.gateway.conference.jitsi.muc import Left, Refused
from sipmediadeploy.gateway.conference.jitsi.stanzas import element, local_name
from sipmediadeploy.gateway.conference.jitsi.stream import Login, LoginRefused, XmppLost
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection, XmppError
from tests.harness.ports import free_port
from tests.harness.waiting import until
from tests.integration.jitsi.guests import ROOM, Guest, guest, login
from tests.integration.jitsi.prosody_server import (
    DOMAIN,
    ProsodyServer,
    needs_prosody,
    running_prosody,
)

pytestmark = [pytest.mark.integration, needs_prosody]


def disco(node: str | None = None) -> Element:
    return element(stanzas.DISCO_INFO, "query", {"node": node})


async def test_a_guest_gets_a_jid_of_its_own_and_answers_to_its_questions(server: ProsodyServer) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann, guest(server, "Bob", "bbbbbbbb") as bob:
        assert ann.connection.jid.partition("@")[2].startswith(DOMAIN)
        assert ann.connection.jid != bob.connection.jid
        answer = await ann.connection.iq("get", DOMAIN, disco())
        features = [x.get("var") for x in answer.iter(f"{{{stanzas.DISCO_INFO}}}feature")]
        assert stanzas.DISCO_INFO in features
        with pytest.raises(XmppError, match="service-unavailable"):
            await ann.connection.iq("get", DOMAIN, element("urn:example:nothing", "query"))


async def test_a_guest_answers_what_others_ask(server: ProsodyServer) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann, guest(server, "Bob", "bbbbbbbb") as bob:
        asking = asyncio.create_task(ann.connection.iq("get", bob.connection.jid, disco("x")))
        await until("Bob is asked", lambda: any(local_name(s) == "iq" for s in bob.stanzas), 5)
        question = next(s for s in bob.stanzas if local_name(s) == "iq")
        bob.connection.reply(question, muc.disco_result(bob.me, question[0].get("node")))
        answer = await asking
        assert answer[0].get("node") == "x"
        assert "urn:xmpp:jingle:1" in [x.get("var") for x in answer[0]]


async def test_nobody_else_can_answer_for_the_one_asked(server: ProsodyServer) -> None:
    async with (
        guest(server, "Ann", "aaaaaaaa") as ann,
        guest(server, "Bob", "bbbbbbbb") as bob,
        guest(server, "Eve", "eeeeeeee") as eve,
    ):
        asking = asyncio.create_task(ann.connection.iq("get", bob.connection.jid, disco()))
        await until("Bob is asked", lambda: any(local_name(s) == "iq" for s in bob.stanzas), 5)
        question = next(s for s in bob.stanzas if local_name(s) == "iq")
        forged = {"type": "result", "id": question.get("id"), "to": ann.connection.jid}
        eve.connection.send(element(stanzas.CLIENT, "iq", forged, disco("forged")))
        await eve.connection.iq("get", DOMAIN, disco())
        await ann.connection.iq("get", DOMAIN, disco())
        assert not asking.done()
        bob.connection.reply(question, disco("true"))
        assert (await asking)[0].get("node") == "true"


async def test_members_see_each_other_with_names_and_mute_states(server: ProsodyServer) -> None:
    async with guest(server, "Änne <&> \x07🎥", "aaaaaaaa") as ann, guest(server, "Bob", "bbbbbbbb") as bob:
        ann.join()
        await until("Ann is in the room", lambda: ann.sees("Änne <&> 🎥"), 5)
        bob.me = replace(bob.me, video_muted=True)
        bob.join()
        await until("Ann sees Bob", lambda: ann.sees("Bob"), 5)
        seen = ann.sees("Bob")
        assert seen is not None
        assert {s.name: s.muted for s in seen.sources} == {"bbbbbbbb-a0": False, "bbbbbbbb-v0": True}
        assert seen.codecs == ("h264",)
        bob.connection.send(muc.presence(replace(bob.me, video_muted=False), join=False))
        await until("Bob's picture is on", lambda: not (ann.sees("Bob") or seen).sources[1].muted, 5)
        bob.connection.send(muc.leave(bob.me))
        await until("Bob has left", lambda: Left("bbbbbbbb", False) in ann.told(), 5)


async def admin(guest_: Guest, kind: str, namespace: str, *children: Element) -> None:
    await guest_.connection.iq(kind, ROOM, element(namespace, "query", None, *children))


async def test_who_is_kicked_is_told_so(server: ProsodyServer) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann, guest(server, "Bob", "bbbbbbbb") as bob:
        ann.join()
        await until("Ann is in the room", lambda: ann.sees("Ann"), 5)
        bob.join()
        await until("Bob is in the room", lambda: bob.sees("Bob"), 5)
        space = "http://jabber.org/protocol/muc#admin"
        await admin(ann, "set", space, element(space, "item", {"nick": "bbbbbbbb", "role": "none"}))
        await until("Bob is told", lambda: Left("bbbbbbbb", True, "kicked") in bob.told(), 5)


async def test_who_is_in_a_room_that_is_closed_is_told_so(server: ProsodyServer) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann, guest(server, "Bob", "bbbbbbbb") as bob:
        ann.join()
        await until("Ann is in the room", lambda: ann.sees("Ann"), 5)
        bob.join()
        await until("Bob is in the room", lambda: bob.sees("Bob"), 5)
        space = "http://jabber.org/protocol/muc#owner"
        await admin(ann, "set", space, element(space, "destroy"))
        await until("Bob is told", lambda: Left("bbbbbbbb", True, "room-closed") in bob.told(), 5)


async def configure(owner: Guest, field: str, value: str) -> None:
    space, form = "http://jabber.org/protocol/muc#owner", "jabber:x:data"
    kind = "http://jabber.org/protocol/muc#roomconfig"
    fields = {"FORM_TYPE": kind, field: value}
    if "secret" in field:
        fields["muc#roomconfig_passwordprotectedroom"] = "1"
    entries = (
        element(form, "field", {"var": name}, element(form, "value", text=text))
        for name, text in fields.items()
    )
    await admin(owner, "set", space, element(form, "x", {"type": "submit"}, *entries))


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("muc#roomconfig_roomsecret", "1234", "password"),
        ("muc#roomconfig_membersonly", "1", "lobby"),
    ],
)
async def test_a_room_that_takes_nobody_says_why(
    server: ProsodyServer, field: str, value: str, kind: str
) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann, guest(server, "Bob", "bbbbbbbb") as bob:
        ann.join()
        await until("Ann is in the room", lambda: ann.sees("Ann"), 5)
        await configure(ann, field, value)
        bob.join()
        await until("Bob is refused", bob.told, 5)
        refused = bob.told()[0]
        assert isinstance(refused, Refused)
        assert refused.kind == kind
        if kind == "password":
            bob.connection.send(muc.presence(bob.me, join=True, password=value))
            await until("Bob is in with the password", lambda: bob.sees("Bob"), 5)


async def test_the_certificate_is_verified(server: ProsodyServer) -> None:
    secure = Login(server.secure_websocket, DOMAIN, "demo")
    with pytest.raises(XmppLost, match=r"(?i)certificate"):
        await XmppConnection.open(secure, lambda _: None)
    connection = await XmppConnection.open(replace(secure, tls=server.tls()), lambda _: None)
    await connection.close()


async def test_a_server_that_takes_no_guests_and_one_that_is_not_there_are_named(
    server: ProsodyServer,
) -> None:
    with pytest.raises((LoginRefused, XmppLost)):
        await XmppConnection.open(replace(login(server), domain="other.test"), lambda _: None)
    nobody = replace(
        login(server), websocket=f"ws://127.0.0.1:{free_port()}/xmpp-websocket", token=lambda: "s3cret"
    )
    with pytest.raises(XmppLost, match=r"127\.0\.0\.1") as error:
        await XmppConnection.open(nobody, lambda _: None)
    assert "s3cret" not in str(error.value)


async def test_a_session_ends_with_a_reason_when_the_server_goes(server: ProsodyServer) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann:
        asking = asyncio.create_task(ann.connection.iq("get", f"nobody@{DOMAIN}", disco()))
        await server.kill()
        async with asyncio.timeout(15):
            assert await ann.connection.lost
        with pytest.raises((XmppLost, XmppError)):
            await asking
        with pytest.raises(XmppLost):
            ann.connection.send(muc.leave(ann.me))


async def test_a_broken_connection_is_resumed_and_nothing_is_lost(tmp_path: Path) -> None:
    async with (
        running_prosody(tmp_path / "prosody", authentication="resuming") as server,
        guest(server, "Ann", "aaaaaaaa") as ann,
        guest(server, "Bob", "bbbbbbbb") as bob,
    ):
        ann.join()
        bob.join()
        await until("both are in the room", lambda: ann.sees("Bob") and bob.sees("Ann"), 5)
        jid = ann.connection.jid
        transport = ann.connection._stream._socket.get_extra_info("socket")
        transport.shutdown(2)  # SHUT_RDWR: as a network that breaks
        ann.connection.send(muc.presence(replace(ann.me, name="Ann again"), join=False))
        bob.connection.send(muc.presence(replace(bob.me, name="Bob again"), join=False))
        await until("the session is resumed", lambda: ann.connection.resumed == 1, 10)
        await until("Bob heard what Ann said meanwhile", lambda: bob.sees("Ann again"), 5)
        await until("Ann heard what Bob said meanwhile", lambda: ann.sees("Bob again"), 5)
        assert ann.connection.jid == jid
        assert not [t for t in bob.told() if isinstance(t, Left)]


async def test_a_session_that_cannot_be_resumed_is_lost(server: ProsodyServer) -> None:
    async with guest(server, "Ann", "aaaaaaaa") as ann:
        ann.connection._stream._socket.get_extra_info("socket").shutdown(2)
        async with asyncio.timeout(10):
            assert await ann.connection.lost
