"""A Jitsi for tests: stock Prosody, jicofo and JVB from an installation, and a web site in front of them.

What was found out: ice4j never offers loopback addresses, so the bridge gets an address of its own. Stock
Prosody is enough when the bridge's host has no stream management (a dead bridge would stay in its room until
its session expires). The first conference after a start is slower by seconds, as classes are loaded then.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from string import Template
from typing import Any

from tests.harness.jitsi.installation import Installation
from tests.harness.jitsi.own_address import OwnAddress
from tests.harness.jitsi.site import Site, make_certificate
from tests.harness.running import eventually

HERE = Path(__file__).parent
MEDIA_PORT = 18_100
"""The bridge's one UDP port."""
_SITE_PORT = 18_443
_PORTS = {
    "c2s_port": 18_222,
    "http_port": 18_280,
    "bridge_port": 18_090,
    "bridge_private_port": 18_080,
    "focus_port": 18_888,
    "media_port": MEDIA_PORT,
}
_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true")
_START_S = 60.0


class Service:
    """One process of the back end; only what this object started is ever ended."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes to the log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, *, kill: bool = False) -> None:
        """End it, at once or in order."""
        process, self._process = self._process, None
        if process is None:
            return
        if not kill:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        process.kill()
        process.wait()

    def check(self) -> None:
        """AssertionError with its last words when it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            words = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise AssertionError(f"{self.name} has ended with {self._process.returncode}: {words}")

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid


@dataclass(frozen=True, slots=True)
class Backend:
    """A running Jitsi."""

    address: IPv4Address
    ca: Path
    """The authority that its certificates are verified by."""
    prosody: Service
    bridge: Service
    focus: Service

    @property
    def url(self) -> str:
        """What goes into the stack file."""
        return f"https://{self.address}:{_SITE_PORT}"

    def page(self, room: str, query: str = "") -> str:
        """Where a browser finds the room."""
        return f"{self.url}/{room}{'?' if query else ''}{query}"

    def restart(self, service: Service) -> None:
        """Kill it and start it anew; returns when it can be used again."""
        service.stop(kill=True)
        service.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until all are there and the focus knows of a working bridge."""

        def ready() -> bool:
            for service in (self.prosody, self.bridge, self.focus):
                service.check()
            stats = self._ask("focus_port", "/stats")
            return (
                self._ask("bridge_private_port", "/about/health", parse=False) is not None
                and stats is not None
                and stats.get("bridge_selector", {}).get("operational_bridge_count") == 1
            )

        eventually(ready, _START_S, f"Jitsi is ready; logs: {self.bridge.log.parent}")

    def bridge_stats(self) -> dict[str, Any]:
        """What the bridge tells of itself at ``/colibri/stats``."""
        return self._ask("bridge_private_port", "/colibri/stats") or {}

    def _ask(self, port: str, path: str, *, parse: bool = True) -> Any:
        try:
            with urllib.request.urlopen(f"http://{self.address}:{_PORTS[port]}{path}", timeout=2) as answer:
                body = answer.read()
        except (OSError, ValueError):
            return None
        return json.loads(body) if parse else body


@contextmanager
def running_backend(installation: Installation, interface: str, directory: Path) -> Iterator[Backend]:
    """A started Jitsi with its files and logs in ``directory``, on an address of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        own = stack.enter_context(OwnAddress(interface))
        site = f"{own.address}:{_SITE_PORT}"
        certificate = make_certificate(directory / "certificates", str(own.address))
        passwords = {"focus_password": secrets.token_hex(16), "jvb_password": secrets.token_hex(16)}
        values: dict[str, object] = {"address": own.address, "interface": interface, "site": site}
        values |= {"directory": directory, **_PORTS, **passwords}
        values |= {
            "plugins": installation.plugins or "",
            "lobbies": str(installation.plugins is not None).lower(),
        }
        for template in (HERE / "configuration").iterdir():
            (directory / template.name).write_text(Template(template.read_text()).substitute(values))
        _make_accounts(directory, {"focus": passwords["focus_password"], "jvb": passwords["jvb_password"]})
        backend = Backend(own.address, certificate.ca, *_services(installation, directory))
        http = f"http://{own.address}"
        files = {"/": HERE / "page/index.html", "/participant.js": HERE / "page/participant.js"}
        files |= {"/config.js": directory / "config.js", "/libs/lib-jitsi-meet.min.js": installation.library}
        upstreams = {
            "/xmpp-websocket": f"{http}:{_PORTS['http_port']}",
            "/conference-request/v1": f"{http}:{_PORTS['focus_port']}",
            "/colibri-ws/": f"{http}:{_PORTS['bridge_port']}",
        }
        stack.enter_context(Site(str(own.address), _SITE_PORT, certificate, files, upstreams))
        for service in (backend.prosody, backend.bridge, backend.focus):
            stack.callback(service.stop)
            service.start()
        backend.wait_ready()
        yield backend


def _services(installation: Installation, directory: Path) -> Iterator[Service]:
    java = [*_JAVA, *installation.java_options]
    java.append(f"-Djava.util.logging.config.file={directory}/logging.properties")
    bridge = ["-Xmx512m", f"-Dconfig.file={directory}/jvb.conf", "-cp", installation.jvb]
    focus = ["-Xmx384m", f"-Dconfig.file={directory}/jicofo.conf", "-cp", installation.jicofo]
    commands = {
        "prosody": ["prosody", "--config", str(directory / "prosody.cfg.lua"), "-F"],
        "jvb": [*java, *bridge, "org.jitsi.videobridge.MainKt"],
        "jicofo": [*java, *focus, "org.jitsi.jicofo.Main"],
    }
    for name, command in commands.items():
        yield Service(name, command, directory / f"{name}.out")


def _make_accounts(directory: Path, passwords: dict[str, str]) -> None:
    accounts = directory / "prosody/auth%2emeet%2etest/accounts"
    accounts.mkdir(parents=True, exist_ok=True)
    for user, password in passwords.items():
        (accounts / f"{user}.dat").write_text(f'return {{ ["password"] = "{password}" }};\n')
