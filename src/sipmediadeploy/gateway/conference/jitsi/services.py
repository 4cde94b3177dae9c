"""The platform's own TURN servers, by External Service Discovery (XEP-0215)."""

from __future__ import annotations

import ipaddress
import re
from xml.etree.ElementTree import Element

import structlog

from sipmediadeploy.gateway.conference.ice import TurnService
from sipmediadeploy.gateway.conference.jitsi.stanzas import element, find, find_all
from sipmediadeploy.gateway.conference.jitsi.stream import XmppLost
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection, XmppError

log = structlog.get_logger(__name__)

EXTERNAL_SERVICES = "urn:xmpp:extdisco:2"
ANSWER_S = 1.5
"""A server that does not answer in this time costs its TURN servers, not the call."""
MAX_SERVICES = 4
TURN_PORT = 3478

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


async def turn_services(connection: XmppConnection, domain: str) -> tuple[TurnService, ...]:
    """Ask for the TURN servers, with credentials that are good from now on. Never raises.

    Only ``turn`` over UDP and TCP: the ICE library has no TURN over TLS.
    """
    try:
        answer = await connection.iq("get", domain, element(EXTERNAL_SERVICES, "services"), ANSWER_S)
    except XmppError as e:
        log.debug("the platform tells of no TURN servers", error=str(e))
        return ()
    except XmppLost as e:
        log.info("the platform did not say which TURN servers it has", error=str(e))
        return ()
    return services_of(answer)


def services_of(answer: Element) -> tuple[TurnService, ...]:
    """The usable TURN servers in an answer; what is none is left out. Pure."""
    services = find(answer, EXTERNAL_SERVICES, "services")
    found = (_service(one) for one in find_all(services, EXTERNAL_SERVICES, "service"))
    return tuple(dict.fromkeys(one for one in found if one is not None))[:MAX_SERVICES]


def _service(one: Element) -> TurnService | None:
    username, password = one.get("username"), one.get("password")
    host, port = one.get("host", ""), one.get("port") or str(TURN_PORT)
    transport = one.get("transport") or "udp"
    if one.get("type") != "turn" or transport not in ("udp", "tcp") or not username or not password:
        return None
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) <= 65535:
        return None
    if not _HOST.fullmatch(host):
        try:
            host = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            return None
    return TurnService(host, int(port), transport, username, password)
