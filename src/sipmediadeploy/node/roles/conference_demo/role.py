"""The role conference-demo on one replica.

Janus listens on the replica's address only, for the stack's gateways and for nginx, which hands ``/janus`` of
the page to it. The admin API is off, and only the video room and the WebSocket transport are loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sipmediadeploy.node.roles.base import RUN, Health, NoOrders, RenderedFile, render_template
from sipmediadeploy.protocol.replica import ConferenceDemoService, ReplicaDocument

JANUS_USER = "smd"
CHECK_S = 0.5

_UNUSED_PLUGINS = (
    *("audiobridge", "duktape", "echotest", "lua", "nosip", "recordplay", "sip", "streaming", "textroom"),
    *("videocall", "voicemail"),
)
_UNUSED_TRANSPORTS = ("http", "mqtt", "nanomsg", "pfunix", "rabbitmq")
_UNUSED_EVENT_HANDLERS = ("gelfevh", "mqttevh", "nanomsgevh", "rabbitmqevh", "sampleevh", "wsevh")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on the replica; tests have their own."""

    janus: Path = RUN / "janus"
    nginx: Path = RUN / "nginx"
    tls: Path = Path("/var/lib/smd/tls")
    """``page.pem`` and ``page.key``, made once by nginx' run script; kept, so that browsers ask only once."""
    web: Path = Path("/usr/share/smd/web")
    worker: str = "smd"
    """The user of nginx' worker."""
    listen: str = "0.0.0.0"
    redirect_port: int = 80


class ConferenceDemoRole(NoOrders):
    """Renders Janus' and nginx' configuration; checks that both answer a participant."""

    services = ("janus", "nginx")
    interval_s = 1.0

    def __init__(self, document: ReplicaDocument, service: ConferenceDemoService) -> None:
        self._document = document
        self._service = service
        self._client: aiohttp.ClientSession | None = None
        self._janus: aiohttp.ClientWebSocketResponse | None = None

    def render(self) -> dict[Path, RenderedFile]:
        """See :class:`~sipmediadeploy.node.roles.base.NodeRole`."""
        return render(self._document, self._service)

    async def check(self) -> Health:
        """Healthy means: the page is there, and Janus lists its rooms through it."""
        try:
            async with asyncio.timeout(CHECK_S):
                return await self._check()
        except TimeoutError:
            problem = f"no answer in {CHECK_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as e:
            problem = repr(e)
        await self.close()  # what comes late must not be taken for the next answer
        return Health(False, f"conference: {problem}")

    async def close(self) -> None:
        """See :class:`~sipmediadeploy.node.roles.base.NodeRole`."""
        client, self._client, self._janus = self._client, None, None
        if client is not None:
            await client.close()

    async def _check(self) -> Health:
        scheme = "https" if self._service.https else "http"
        page = f"{scheme}://{self._document.address}:{self._service.page_port}"
        if self._client is None:
            # The certificate is the replica's own and for its published address; this is the same machine.
            self._client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))
        async with self._client.get(page + "/health") as response:
            if response.status != 200:
                return Health(False, f"conference: the page answers {response.status}")
        if self._janus is None or self._janus.closed:
            self._janus = await self._client.ws_connect(page + "/janus", protocols=("janus-protocol",))
        await self._janus.send_json({"janus": "ping", "transaction": "health"})
        answer = await self._janus.receive_json()
        if answer["janus"] != "pong":
            return Health(False, f"conference: Janus answers {answer['janus']}")
        return Health(True, "the page is served and Janus answers")


def render(
    document: ReplicaDocument, service: ConferenceDemoService, places: Places | None = None
) -> dict[Path, RenderedFile]:
    """The configuration files of Janus and nginx. Pure."""
    places = places or Places()
    values = {
        "service": service,
        "address": document.address,
        "places": places,
        "plugins": _libraries(_UNUSED_PLUGINS),
        "transports": _libraries(_UNUSED_TRANSPORTS),
        "event_handlers": _libraries(_UNUSED_EVENT_HANDLERS),
    }
    files = {
        places.janus / name: RenderedFile(_template(name, values), JANUS_USER)
        for name in ("janus.jcfg", "janus.plugin.videoroom.jcfg", "janus.transport.websockets.jcfg")
    }
    files[places.nginx / "nginx.conf"] = RenderedFile(_template("nginx.conf", values))
    if service.https:
        subject = {"subject": service.publish or document.address}
        files[places.nginx / "certificate.cnf"] = RenderedFile(_template("certificate.cnf", subject))
    return files


def _template(name: str, values: Mapping[str, object]) -> str:
    return render_template("sipmediadeploy.node.roles.conference_demo", f"{name}.j2", **values)


def _libraries(names: tuple[str, ...]) -> str:
    return ",".join(f"libjanus_{name}.so" for name in names)
