"""The few requests to OpenStack's APIs that the lab itself makes, by the standard library.

The SDK takes longer to be imported than all of them together. Tests use it, too.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, BinaryIO

from tests.lab.openstack.inside.config import PORTS

# A proxy that this host is set to use has no way to the lab.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_LIMIT_S = 180
_ROOTS = {"identity": "/v3", "compute": "/v2.1", "network": "/v2.0", "image": "/v2", "placement": ""}


class ApiError(Exception):
    """A request was refused, or not answered."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """The HTTP status; 0 when there was no answer."""


class Api:
    """One user's view of one project. Thread-safe once the first request was made."""

    def __init__(self, address: str, user: str, password: str, project: str) -> None:
        self._address = address
        self._login = (user, password, project)
        self._token = ""
        self.project_id = ""
        """Known after the first request."""

    def call(self, method: str, service: str, path: str, body: object = None) -> Any:
        """One request; what was answered, or None when there is no content.

        Raises:
            ApiError: an answer that is no success, or none at all.
        """
        if not self._token:
            self._authenticate()
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, service, path, data, {"Content-Type": "application/json"})[0]

    def get(self, service: str, path: str, **query: str) -> Any:
        """What is at ``path``."""
        return self.call("GET", service, f"{path}?{urllib.parse.urlencode(query)}" if query else path)

    def find(self, service: str, plural: str, name: str) -> Any:
        """The one of its kind with that name, or None."""
        found = self.get(service, f"/{plural}", name=name)[plural]
        return next((item for item in found if item["name"] == name), None)

    def upload(self, path: str, content: BinaryIO, length: int) -> None:
        """Send an image's content, which is read as it goes."""
        if not self._token:
            self._authenticate()
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        self._send("PUT", "image", path, content, headers, limit=600)

    def _authenticate(self) -> None:
        user, password, project = self._login
        domain = {"id": "default"}
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "domain": domain, "password": password}},
                },
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        data = json.dumps(body).encode()
        answer, headers = self._send(
            "POST", "identity", "/auth/tokens", data, {"Content-Type": "application/json"}
        )
        self.project_id = answer["token"]["project"]["id"]
        self._token = headers["X-Subject-Token"]

    def _send(
        self,
        method: str,
        service: str,
        path: str,
        data: bytes | BinaryIO | None,
        headers: dict[str, str],
        limit: float = _LIMIT_S,
    ) -> tuple[Any, Any]:
        url = f"http://{self._address}:{PORTS[service]}{_ROOTS[service]}{path}"
        if self._token:
            headers = {**headers, "X-Auth-Token": self._token}
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with _OPENER.open(request, timeout=limit) as answer:
                content = answer.read()
                is_json = answer.headers.get_content_type() == "application/json"
                return (json.loads(content) if content and is_json else None), answer.headers
        except urllib.error.HTTPError as e:
            text = e.read().decode(errors="replace")
            raise ApiError(e.code, f"{method} {url}: {e.code} {' '.join(text.split())[:400]}") from None
        except OSError as e:
            raise ApiError(0, f"{method} {url}: {e}") from None


def wait_for(what: str, is_so: Callable[[], bool], limit_s: float, pause_s: float = 0.2) -> None:
    """Ask until it is so; errors of the API count as "not yet".

    Raises:
        TimeoutError: it was not for ``limit_s``.
    """
    end = time.monotonic() + limit_s
    last = ""
    while time.monotonic() < end:
        try:
            if is_so():
                return
            last = ""
        except ApiError as e:
            last = f" ({e})"
        time.sleep(pause_s)
    raise TimeoutError(f"{what}: not within {limit_s:.0f} s{last}")
