"""A real Prosody on loopback, with stock modules: guests over WebSocket, stream management, rooms."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.ports import free_port

needs_prosody = pytest.mark.skipif(shutil.which("prosody") is None, reason="prosody is not installed")

DOMAIN = "meet.test"
MUC = "conference.meet.test"

_CONFIGURATION = """
run_as_root = true
daemonize = false
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
plugin_paths = {{ "{directory}/modules" }}
certificates = "{directory}/certificates"
log = {{ debug = "{directory}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{}}
s2s_ports = {{}}
http_ports = {{ {port} }}
https_ports = {{ {tls_port} }}
http_interfaces = {{ "127.0.0.1" }}
https_interfaces = {{ "127.0.0.1" }}
http_default_host = "{domain}"
https_certificate = "{directory}/certificates/server.crt"
https_key = "{directory}/certificates/server.key"
modules_enabled = {{ "saslauth", "disco", "ping", "websocket", "smacks", "posix", "external_services" }}
external_services = {{ {services} }}
modules_disabled = {{ "s2s", "tls", "offline" }}
c2s_require_encryption = false
consider_websocket_secure = true
storage = "memory"
smacks_hibernation_time = 30

VirtualHost "{domain}"
    authentication = "{authentication}"
    test_token_key = "{key}"

Component "{muc}" "muc"
    muc_room_locking = false
    muc_room_default_public_jids = true
    modules_enabled = {{ "token_rooms", "lobby_told" }}
    storage = "memory"

Component "lobby.{domain}" "muc"
    muc_room_locking = false
    muc_room_default_public_jids = true
    storage = "memory"
"""

# What Jitsi's own Prosody does for rooms with a lobby: who is no member is told where it is.
_LOBBY_TOLD = """
local jid_split = require "util.jid".split;
module:hook("muc-occupant-pre-join", function (event)
    local room, stanza = event.room, event.stanza;
    if not room:get_members_only() or room:get_affiliation(stanza.attr.from) then return; end
    local reply = require "util.stanza".error_reply(stanza, "auth", "registration-required");
    reply:get_child("error"):text_tag("lobbyroom", jid_split(room.jid).."@lobby.meet.test",
        { xmlns = "http://jitsi.org/jitmeet" });
    event.origin.send(reply);
    return true;
end, 50);
"""

_NO_ACCOUNTS = """
local new_sasl = require "util.sasl".new;
local provider = {};
function provider.test_password() return nil; end
function provider.get_password() return nil; end
function provider.set_password() return nil; end
function provider.user_exists() return true; end
function provider.create_user() return nil; end
"""

# What Jitsi's own Prosody does: who resumes a session is the same guest again.
_RESUMING_GUESTS = """
local smacks_user = {};
function provider.get_sasl_handler(session)
    local handler = new_sasl(module.host, { anonymous = function() return true; end });
    local previous = session.previd and smacks_user[session.previd];
    local process = handler.process;
    function handler:process(message)
        local status, answer, text = process(self, message);
        if status == "success" and previous then self.username = previous; end
        return status, answer, text;
    end
    function handler:clean_clone() return provider.get_sasl_handler(session); end
    return handler;
end
module:provides("auth", provider);
module:context("*"):hook("websocket-session", function (event)
    local query = event.request.url.query or "";
    event.session.previd = query:match("previd=([^&]+)");
end);
module:hook("pre-resource-unbind", function (event)
    local session = event.session;
    if session.resumption_token then smacks_user[session.resumption_token] = session.username; end
end, 10);
"""

# What Jitsi's own Prosody does for platforms that want a token: it must be signed, in time and for the room.
_TOKEN_HOLDERS = """
local jwt = require "util.jwt";
local formdecode = require "util.http".formdecode;
local key = module:get_option_string("test_token_key");
function provider.get_sasl_handler(session)
    local handler = new_sasl(module.host, { anonymous = function() return true; end });
    local process = handler.process;
    function handler:process(message)
        local good, claims = jwt.verify(key, session.token or "");
        if not good then return "failure", "not-allowed", "token: " .. claims; end
        local now = os.time();
        if claims.aud ~= "jitsi" or claims.iss ~= "gateways" or claims.exp < now or claims.nbf > now then
            return "failure", "not-allowed", "token: not for us, or not now";
        end
        session.token_room, session.token_name = claims.room, claims.context.user.name;
        return process(self, message);
    end
    function handler:clean_clone() return provider.get_sasl_handler(session); end
    return handler;
end
module:provides("auth", provider);
module:context("*"):hook("websocket-session", function (event)
    event.session.token = formdecode(event.request.url.query or "").token;
end);
"""

# In the rooms' component.
_TOKEN_ROOMS = """
local jid_split = require "util.jid".split;
module:hook("muc-occupant-pre-join", function (event)
    local room, may = jid_split(event.room.jid), event.origin.token_room;
    if not may then return; end
    if may ~= "*" and may ~= room then
        event.origin.send(require "util.stanza".error_reply(event.stanza, "cancel", "not-allowed"));
        return true;
    end
    module:log("info", "%s has a token for %s", event.origin.token_name, room);
end, 100);
"""

TOKEN_KEY = "a key that only Prosody and the test know"


class ProsodyServer:
    """A Prosody that can be started and killed."""

    def __init__(self, directory: Path, *, authentication: str = "anonymous", services: str = "") -> None:
        self.directory = directory
        self.authentication = authentication
        self.port, self.tls_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "modules").mkdir(parents=True)
        (directory / "modules" / "mod_auth_resuming.lua").write_text(_NO_ACCOUNTS + _RESUMING_GUESTS)
        (directory / "modules" / "mod_auth_token.lua").write_text(_NO_ACCOUNTS + _TOKEN_HOLDERS)
        (directory / "modules" / "mod_token_rooms.lua").write_text(_TOKEN_ROOMS)
        (directory / "modules" / "mod_lobby_told.lua").write_text(_LOBBY_TOLD)
        (directory / "certificates").mkdir()
        self._make_certificate()
        (directory / "prosody.cfg.lua").write_text(
            _CONFIGURATION.format(
                directory=directory,
                port=self.port,
                tls_port=self.tls_port,
                domain=DOMAIN,
                muc=MUC,
                authentication=authentication,
                key=TOKEN_KEY,
                services=services,
            )
        )

    def _make_certificate(self) -> None:
        key, certificate = self.directory / "certificates/server.key", self.ca
        argv = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ]
        argv += ["-addext", f"subjectAltName=IP:127.0.0.1,DNS:{DOMAIN}"]
        subprocess.run(
            [*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
        )

    @property
    def ca(self) -> Path:
        """The certificate that verifies the server."""
        return self.directory / "certificates/server.crt"

    @property
    def websocket(self) -> str:
        """XMPP over WebSocket, without TLS."""
        return f"ws://127.0.0.1:{self.port}/xmpp-websocket"

    @property
    def secure_websocket(self) -> str:
        """XMPP over WebSocket with TLS."""
        return f"wss://127.0.0.1:{self.tls_port}/xmpp-websocket"

    def tls(self) -> ssl.SSLContext:
        """Trusts the server."""
        return ssl.create_default_context(cafile=str(self.ca))

    @property
    def log(self) -> str:
        """All that Prosody said."""
        path = self.directory / "prosody.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _spawn(self) -> subprocess.Popen[bytes]:
        argv = ["prosody", "--config", str(self.directory / "prosody.cfg.lua"), "-F"]
        with (self.directory / "out").open("ab") as out:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    async def start(self) -> None:
        """Start and wait until it listens."""
        process = self._process = self._spawn()
        async with asyncio.timeout(20):
            while True:
                assert process.poll() is None, (self.directory / "out").read_text() + self.log
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


@contextlib.asynccontextmanager
async def running_prosody(
    directory: Path, *, authentication: str = "anonymous", services: str = ""
) -> AsyncIterator[ProsodyServer]:
    """A started Prosody; ``services``: what it tells of TURN servers, in Lua."""
    server = ProsodyServer(directory, authentication=authentication, services=services)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
