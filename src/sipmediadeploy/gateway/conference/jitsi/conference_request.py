"""Ask the focus for a conference: by HTTP, or as an IQ, until it is ready."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import aiohttp
import structlog

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, RoomRefused
from sipmediadeploy.gateway.conference.jitsi.deployment import Deployment
from sipmediadeploy.gateway.conference.jitsi.stanzas import FOCUS, element, find, find_all
from sipmediadeploy.gateway.conference.jitsi.stream import XmppLost
from sipmediadeploy.gateway.conference.jitsi.xmpp import XmppConnection, XmppError

log = structlog.get_logger(__name__)

AGAIN_S = (0.2, 0.5, 1.0)
MAX_ANSWER = 65_536
_NO_HTTP = (404, 405, 501)
_PROPERTIES = {"rtcstatsEnabled": "false"}


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants which room."""

    room: str
    machine: str
    """The same for all visits of one call."""
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the focus says."""

    ready: bool
    focus: str | None = None
    """The focus's JID."""
    needs_login: bool = False


def request_iq(request: Request) -> Element:
    """The request as an IQ's payload. Without ``visitors-version`` nobody is sent to the visitors' room."""
    return element(
        FOCUS,
        "conference",
        {"room": request.room, "machine-uid": request.machine, "token": request.token},
        *(element(FOCUS, "property", {"name": k, "value": v}) for k, v in _PROPERTIES.items()),
    )


def answer_of_iq(answer: Element) -> Answer:
    """The focus's answer to :func:`request_iq`."""
    conference = find(answer, FOCUS, "conference")
    if conference is None:
        raise ConferenceUnavailable("the focus's answer has no <conference/>")
    told = {p.get("name"): p.get("value") for p in find_all(conference, FOCUS, "property")}
    ready = conference.get("ready") == "true"
    return Answer(ready, conference.get("focusjid"), told.get("authentication") == "true")


def answer_of_json(text: str) -> Answer:
    """The focus's answer by HTTP."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ConferenceUnavailable("the answer to the conference request is no JSON object")
    told = data.get("properties")
    focus = data.get("focusJid")
    return Answer(
        data.get("ready") is True,
        focus if isinstance(focus, str) else None,
        isinstance(told, dict) and told.get("authentication") == "true",
    )


def refusal(condition: str, text: str) -> RoomRefused | ConferenceUnavailable:
    """What an error of the focus means for a caller."""
    detail = f"{condition}: {text}" if text else condition
    match condition:
        case "not-authorized" | "forbidden" | "not-allowed":
            return RoomRefused(f"the room has not begun, and only hosts may begin it ({detail})", 403)
        case "jid-malformed" | "bad-request" | "not-acceptable":
            return RoomRefused(f"the focus refused the room's name ({detail})", 404)
        case _:
            return ConferenceUnavailable(f"the focus does not answer ({detail})")


async def request_conference(
    request: Request,
    deployment: Deployment,
    connection: XmppConnection,
    tls: ssl.SSLContext,
    timeout_s: float = 10.0,
) -> Answer:
    """Ask until the focus is in the room.

    Raises:
        RoomRefused: the room may not be entered or made.
        ConferenceUnavailable: there is no focus, or it is not ready in ``timeout_s`` seconds.
        XmppLost: the XMPP connection is gone.
    """
    tries, url, answer = 0, deployment.request_url, None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                answer = await _by_http(request, url, tls) if url else None
                if answer is None:
                    url = None
                    answer = await _by_iq(request, deployment, connection)
                if answer.ready:
                    return answer
                await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
                tries += 1
    except TimeoutError:
        if answer is not None and answer.needs_login:
            raise RoomRefused("the room has not begun, and only hosts may begin it", 403) from None
        raise ConferenceUnavailable(f"the focus was not ready in {timeout_s:g} s") from None


async def _by_iq(request: Request, deployment: Deployment, connection: XmppConnection) -> Answer:
    try:
        return answer_of_iq(await connection.iq("set", deployment.focus, request_iq(request)))
    except XmppError as e:
        raise refusal(e.condition, e.text or deployment.focus) from e
    except XmppLost as e:
        if connection.lost.done():
            raise
        raise ConferenceUnavailable(f"{deployment.focus}: {e}") from e


async def _by_http(request: Request, url: str, tls: ssl.SSLContext) -> Answer | None:
    """None: there is no such way here."""
    body = {"room": request.room, "machineUid": request.machine, "properties": _PROPERTIES}
    headers = {"Authorization": f"Bearer {request.token}"} if request.token else {}
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{url}", json=body, headers=headers, ssl=tls) as answer,
        ):
            text = (await answer.content.read(MAX_ANSWER)).decode("utf-8", errors="replace")
            if answer.status in _NO_HTTP:
                log.info("no conference requests by HTTP here", url=url, status=answer.status)
                return None
            if answer.status == 200:
                return answer_of_json(text)
            if answer.status in (401, 403):
                raise refusal("not-authorized", f"HTTP {answer.status}")
            if answer.status == 400:
                raise refusal("bad-request", text[:200])
            raise ConferenceUnavailable(f"{url}: HTTP {answer.status}")
    except (aiohttp.ClientError, OSError, ValueError) as e:
        raise ConferenceUnavailable(f"{url}: {e or type(e).__name__}") from e
