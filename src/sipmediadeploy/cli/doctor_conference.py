"""Whether the conference platform answers at its address, and by which certificate."""

from __future__ import annotations

import ssl
from http import HTTPStatus

import aiohttp

from sipmediadeploy.providers.findings import Finding, ok, problem, warning
from sipmediadeploy.stack import Conference

LIMIT_S = 8.0
_WHAT = "conference"


async def look(conference: Conference) -> Finding:
    """Ask it as a gateway would first: for its page (Jitsi), or for a WebSocket (Janus)."""
    if conference.url is None:
        return ok(_WHAT, "the demo conference, which is part of the stack")
    try:
        status = await _ask(conference.url, conference.ca)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
        return judge(conference.url, e)
    return judge(conference.url, status)


def judge(url: str, answer: int | Exception) -> Finding:
    """What an HTTP status, or the error instead of one, says. Pure."""
    if isinstance(answer, int):
        if answer < HTTPStatus.BAD_REQUEST:
            return ok(_WHAT, f"{url} answers ({answer})")
        todo = "correct conference.url, or look at the platform's web server"
        return problem(_WHAT, f"{url} answers with {answer}", todo)
    if isinstance(answer, aiohttp.WSServerHandshakeError):
        todo = "correct conference.url: it must be the WebSocket of Janus"
        return problem(_WHAT, f"{url} gives no WebSocket ({answer.status}: {answer.message})", todo)
    if isinstance(answer, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        todo = "renew it, or name its authority in conference.ca_file (Jitsi)"
        return problem(_WHAT, f"{url}: its certificate is not accepted: {_words(answer)}", todo)
    if isinstance(answer, aiohttp.ClientSSLError | ssl.SSLError):
        return problem(_WHAT, f"{url} speaks no TLS: {_words(answer)}", "correct conference.url")
    said = "no answer in time" if isinstance(answer, TimeoutError) else _words(answer)
    todo = "see that gateways can reach it; it may be out of reach from here only"
    return warning(_WHAT, f"{url} can't be reached: {said}", todo)


async def _ask(url: str, ca: str | None) -> int:
    """The HTTP status; 101 for a WebSocket."""
    tls = ssl.create_default_context()
    if ca is not None:
        tls.load_verify_locations(cadata=ca)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as client:
        if url.startswith("ws"):
            async with client.ws_connect(url, protocols=("janus-protocol",), ssl=tls):
                return HTTPStatus.SWITCHING_PROTOCOLS
        async with client.get(url, ssl=tls) as answer:
            return answer.status


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
