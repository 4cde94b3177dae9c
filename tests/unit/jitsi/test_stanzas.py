"""Stanzas in and out."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.gateway.conference.jitsi import stanzas
from sipmediadeploy.gateway.conference.jitsi.stanzas import (
    BadStanza,
    caps_hash,
    element,
    parse_stanza,
    to_text,
)

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a b='1' b='2'/>",
        "<x:a/>",
        "<a>&amp</a>",
        "<a>&unknown;</a>",
        "<a>\x00</a>",
        "<a>\ud800</a>",
        "<!DOCTYPE a><a/>",
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l9;</a>',
        '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>',
        '<?xml version="1.0"?><!DOCTYPE a SYSTEM "http://127.0.0.1/x"><a/>',
        "<a>" * 100 + "</a>" * 100,
        "<a>" + "<b/>" * 30_000 + "</a>",
        "<a>" + "x" * (1 << 20) + "</a>",
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_stanza_is_refused_at_once(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(BadStanza):
        parse_stanza(text)
    assert time.process_time() - begun < 1


def test_names_attributes_and_text_are_read_with_their_namespaces() -> None:
    stanza = parse_stanza(
        "<iq xmlns='jabber:client' xml:lang='en' id='1'>a<p:b xmlns:p='urn:x'>&lt;&#233;</p:b>c</iq>"
    )
    assert stanza.tag == "{jabber:client}iq"
    assert stanza.get("id") == "1"
    assert stanzas.text_of(stanza, "urn:x", "b") == "<é"


def test_what_is_written_is_read_again() -> None:
    made = element(
        "urn:a", "x", {"q": "<'\"&>", "none": None, "n": 7}, element("urn:b", "y", text="<&>\x07🎥")
    )
    text = to_text(made)
    assert text == (
        """<x xmlns="urn:a" q="&lt;'&quot;&amp;&gt;" n="7"><y xmlns="urn:b">&lt;&amp;&gt;🎥</y></x>"""
    )
    assert to_text(parse_stanza(text)) == text


@given(st.text(), st.text())
def test_no_text_breaks_out_of_its_place(value: str, text: str) -> None:
    made = parse_stanza(to_text(element("urn:a", "x", {"q": value}, element("urn:a", "y", text=text))))
    assert [child.tag for child in made] == ["{urn:a}y"]
    assert set(made.attrib) == {"q"}


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    for candidate in (text, f"<a>{text}</a>", f"<a {text}/>"):
        try:
            parse_stanza(candidate)
        except BadStanza:
            pass


def test_the_capabilities_hash_is_that_of_the_specification() -> None:
    # XEP-0115, section 5.2
    features = ["http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"]
    features += ["http://jabber.org/protocol/muc", "http://jabber.org/protocol/caps"]
    assert caps_hash("client", "pc", "Exodus 0.9.1", features) == "QgayPKawpkPSDYmwT/WM94uAlu0="


def test_errors_have_their_condition_and_text() -> None:
    stanza = parse_stanza(
        "<iq xmlns='jabber:client' type='error'><error type='auth'>"
        "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error></iq>"
    )
    assert stanzas.error_of(stanza)[:2] == ("not-authorized", "no")
    assert stanzas.error_of(parse_stanza("<iq xmlns='jabber:client'/>"))[0] == "undefined-condition"
