"""XML stanzas: parsed with limits, written with namespaces. Pure.

Over WebSocket each message is one whole XML document (RFC 7395, section 3.3.3), so stanzas are parsed one by
one. Document types, and with them entities, are refused (RFC 6120, section 11.1), before they cost anything.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

CLIENT = "jabber:client"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"
STREAM = "http://etherx.jabber.org/streams"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
SMACKS = "urn:xmpp:sm:3"
PING = "urn:xmpp:ping"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
CAPS = "http://jabber.org/protocol/caps"
MUC = "http://jabber.org/protocol/muc"
MUC_USER = "http://jabber.org/protocol/muc#user"
NICK = "http://jabber.org/protocol/nick"
FOCUS = "http://jitsi.org/protocol/focus"
JITMEET = "http://jitsi.org/jitmeet"

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_ELEMENTS = 20_000

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML = "http://www.w3.org/XML/1998/namespace"


class BadStanza(ValueError):
    """Not a stanza that is safe to use."""


def parse_stanza(text: str) -> Element:
    """The root element; names are ``{NAMESPACE}NAME``.

    Raises:
        BadStanza: not well-formed, too big, too deep, or with a document type.
    """
    if len(text) > MAX_BYTES:
        raise BadStanza(f"a stanza of {len(text)} characters; at most {MAX_BYTES} are taken")
    builder = TreeBuilder()
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise BadStanza("the stanza is too deep or has too many elements")
        builder.start(_braced(name), {_braced(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_braced(name))

    def refuse(*_: Any) -> None:
        raise BadStanza("a stanza with a document type")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8"), True)
        return builder.close()
    except (expat.ExpatError, UnicodeEncodeError, AssertionError) as error:
        raise BadStanza(f"not well-formed XML: {error}") from None


def _braced(name: str) -> str:
    return "{" + name if "}" in name else name


def element(
    namespace: str,
    name: str,
    attributes: Mapping[str, object] | None = None,
    *children: Element | None,
    text: str | None = None,
) -> Element:
    """An element; attributes and children that are None are left out."""
    made = Element(f"{{{namespace}}}{name}")
    for key, value in (attributes or {}).items():
        if value is not None:
            made.set(key, str(value))
    made.text = text
    made.extend(child for child in children if child is not None)
    return made


def to_text(root: Element) -> str:
    """The element as XML; characters that XML does not have are left out."""
    parts: list[str] = []
    _write(root, None, parts)
    return "".join(parts)


def _write(one: Element, outer: str | None, parts: list[str]) -> None:
    namespace, name = split_name(one.tag)
    parts.append(f"<{name}")
    if namespace != outer:
        parts.append(f" xmlns={quoteattr(namespace)}")
    for key, value in one.attrib.items():
        place, local = split_name(key)
        parts.append(f" {'xml:' if place == _XML else ''}{local}={quoteattr(_ILLEGAL.sub('', value))}")
    if not len(one) and not one.text:
        parts.append("/>")
        return
    parts.append(">" + escape(_ILLEGAL.sub("", one.text or "")))
    for child in one:
        _write(child, namespace, parts)
        parts.append(escape(_ILLEGAL.sub("", child.tail or "")))
    parts.append(f"</{name}>")


def split_name(tag: str) -> tuple[str, str]:
    """(namespace, local name) of ``{NAMESPACE}NAME``."""
    namespace, brace, name = tag.rpartition("}")
    return (namespace[1:], name) if brace else ("", tag)


def local_name(one: Element) -> str:
    """The name without its namespace."""
    return split_name(one.tag)[1]


def find(parent: Element | None, namespace: str, name: str) -> Element | None:
    """The first child of that name."""
    return None if parent is None else parent.find(f"{{{namespace}}}{name}")


def find_all(parent: Element | None, namespace: str, name: str) -> Iterator[Element]:
    """Every child of that name."""
    return iter(()) if parent is None else iter(parent.findall(f"{{{namespace}}}{name}"))


def text_of(parent: Element | None, namespace: str, name: str) -> str | None:
    """The text of the first child of that name, without the white space around it; None: no such child."""
    child = find(parent, namespace, name)
    return None if child is None else (child.text or "").strip()


def error_of(stanza: Element) -> tuple[str, str, Element | None]:
    """(condition, text, ``<error/>``) of a stanza of type ``error`` (RFC 6120, section 8.3)."""
    error = next((child for child in stanza if local_name(child) == "error"), None)
    if error is None:
        return "undefined-condition", "", None
    names = [local_name(c) for c in error if split_name(c.tag)[0] == STANZAS and local_name(c) != "text"]
    return names[0] if names else "undefined-condition", text_of(error, STANZAS, "text") or "", error


def caps_hash(category: str, kind: str, name: str, features: Iterable[str]) -> str:
    """The verification string of entity capabilities (XEP-0115, section 5.1) for one identity, SHA-1."""
    text = f"{category}/{kind}//{name}<" + "".join(f"{feature}<" for feature in sorted(set(features)))
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()
