"""Where a Jitsi Meet deployment's parts are: found from its URL and ``config.js``, each can be overridden."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable
from sipmediadeploy.gateway.conference.jitsi.config_js import MAX_CHARACTERS, JitsiConfig, parse_config
from sipmediadeploy.protocol.replica import ConferenceAccess

log = structlog.get_logger(__name__)

FETCH_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """All that is needed to join rooms."""

    domain: str
    """XMPP domain that guests log in to."""
    muc: str
    focus: str
    """Where conference requests go as an IQ."""
    websocket: str
    request_url: str | None
    """Where conference requests go by HTTP; None: only as an IQ."""
    focus_user: str | None = None
    """Bare JID of the focus, where it is known."""
    configured: bool = False
    """The deployment's ``config.js`` was read."""


def deployment_of(access: ConferenceAccess, config: JitsiConfig | None) -> Deployment:
    """Overrides first, then what ``config.js`` tells, then Jitsi's defaults for the URL's host. Pure.

    Raises:
        ConferenceUnavailable: the URL has no host.
    """
    parts = urlsplit(access.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConferenceUnavailable(f"conference.url: {access.url!r} is no http(s) address of a Jitsi Meet")
    told = config or JitsiConfig()
    base = access.url if access.url.endswith("/") else access.url + "/"
    domain = access.domain or told.domain or parts.hostname
    default_request = None if config is not None else urljoin(base, "/conference-request/v1")
    request = access.request_url or told.request_url or default_request
    return Deployment(
        domain=domain,
        muc=access.muc or told.muc or f"conference.{domain}",
        focus=access.focus or told.focus or f"focus.{domain}",
        websocket=_as_websocket(
            urljoin(base, access.websocket or told.websocket or "/xmpp-websocket"),
        ),
        request_url=urljoin(base, request) if request else None,
        focus_user=told.focus_user,
        configured=config is not None,
    )


def _as_websocket(url: str) -> str:
    return "ws" + url[4:] if url.startswith("http") else url


def tls_context(access: ConferenceAccess) -> ssl.SSLContext:
    """Verifies the deployment's certificates, by the system's authorities and the given ones.

    Raises:
        ConferenceUnavailable: ``conference.ca`` holds no certificates.
    """
    context = ssl.create_default_context()
    if access.ca:
        try:
            context.load_verify_locations(cadata=access.ca)
        except (ssl.SSLError, ValueError) as e:
            raise ConferenceUnavailable(f"conference.ca_file: no certificates in PEM form: {e}") from None
    return context


async def discover(access: ConferenceAccess, tls: ssl.SSLContext) -> Deployment:
    """Read the deployment's ``config.js`` and find its parts.

    Raises:
        ConferenceUnavailable: the web server can't be reached, and nothing is overridden.
    """
    base = access.url if access.url.endswith("/") else access.url + "/"
    try:
        config = await _fetch(urljoin(base, "config.js"), tls)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
        if not access.websocket:
            raise ConferenceUnavailable(f"{access.url}: {e or 'no answer'}") from e
        config = None
    found = deployment_of(access, config)
    log.info(
        "jitsi found",
        url=access.url,
        domain=found.domain,
        muc=found.muc,
        websocket=found.websocket,
        request=found.request_url or found.focus,
        config_js=found.configured,
    )
    return found


async def _fetch(url: str, tls: ssl.SSLContext) -> JitsiConfig | None:
    timeout = aiohttp.ClientTimeout(total=FETCH_LIMIT_S)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url, ssl=tls) as answer:
        if answer.status != 200:
            return None
        body = b""
        async for chunk in answer.content.iter_chunked(65_536):
            body += chunk
            if len(body) > MAX_CHARACTERS:
                break
    return await asyncio.to_thread(parse_config, body.decode("utf-8", errors="replace"))
