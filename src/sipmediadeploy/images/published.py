"""What is in a registry: the HTTP API V2 (OCI distribution specification), as far as listing needs it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from docker.errors import DockerException

from sipmediadeploy.images.host import CA_BUNDLE
from sipmediadeploy.images.inputs import ImageError
from sipmediadeploy.images.registry import CERTIFICATES, Place, explain, stored_login

_TIMEOUT_S = 20
_KINDS = (
    "docker.distribution.manifest.v2",
    "oci.image.manifest.v1",
    "docker.distribution.manifest.list.v2",
    "oci.image.index.v1",
)
_ACCEPT = ", ".join(f"application/vnd.{kind}+json" for kind in _KINDS)
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_REFUSED = (requests.codes.unauthorized, requests.codes.forbidden)


@dataclass(frozen=True, slots=True)
class Published:
    """An image in a registry."""

    name: str
    tag: str
    digest: str
    """Of its manifest: ``sha256:`` and 64 hex digits."""
    size: int | None
    """Bytes of its layers as they are stored; ``None``: it is for several machine types."""


Authorize = Callable[[requests.PreparedRequest], requests.PreparedRequest]


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authorizes nothing; without it, requests would look for a password in ``~/.netrc``."""
    return request


def list_published(place: Place, roles: Iterable[str]) -> list[Published]:
    """The images of ``roles`` at ``place``, by role and tag, seen with what ``docker login`` stored.

    Raises:
        ImageError: the registry can't be reached, refuses, or answers as none would.
    """
    with requests.Session() as session:
        session.trust_env = not place.is_loopback  # a proxy is no way to this host
        try:
            registry = _Registry(place, session)
            return [registry.image(role, tag) for role in roles for tag in sorted(registry.tags(role))]
        except (KeyError, TypeError, ValueError) as e:  # requests' own errors of JSON and URLs are such
            raise ImageError(f"registry {place.registry} does not answer as one: {e!r}") from None
        except (DockerException, requests.RequestException) as e:
            raise ImageError(explain(place.registry, " ".join(str(e).split()))) from None


class _Registry:
    def __init__(self, place: Place, session: requests.Session) -> None:
        self._place = place
        self._session = session
        own = CERTIFICATES / place.registry / "ca.crt"
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or (str(CA_BUNDLE) if CA_BUNDLE.exists() else True)
        self._verify = str(own) if own.exists() else bundle
        self._authorization: dict[str, str] = {}
        self._base = self._find_base()

    def tags(self, role: str) -> Iterator[str]:
        """The tags of the image of ``role``; none where there is no such image."""
        path = f"/v2/{self._place.repository(role)}/tags/list"
        while path:
            answer = self._get(path)
            if answer.status_code == requests.codes.not_found:
                return
            answer.raise_for_status()
            yield from answer.json()["tags"] or ()
            path = answer.links.get("next", {}).get("url", "")

    def image(self, role: str, tag: str) -> Published:
        """The image of ``role`` with the ``tag``."""
        answer = self._get(f"/v2/{self._place.repository(role)}/manifests/{tag}")
        answer.raise_for_status()
        layers: list[dict[str, Any]] | None = answer.json().get("layers")
        size = None if layers is None else sum(int(layer["size"]) for layer in layers)
        return Published(self._place.name(role), tag, answer.headers["Docker-Content-Digest"], size)

    def _find_base(self) -> str:
        """The address of the API: as the engine does it, HTTP without TLS on this host only."""
        host = _API_HOSTS.get(self._place.registry, self._place.registry)
        if self._place.is_loopback:
            try:
                self._ask(f"https://{host}/v2/")
            except requests.ConnectionError:
                return f"http://{host}"
        return f"https://{host}"

    def _get(self, path: str) -> requests.Response:
        url = urljoin(self._base, path)
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise ValueError(f"it leads to {url}")  # which must not get the credentials
        answer = self._ask(url, self._authorization)
        challenge = answer.headers.get("WWW-Authenticate")
        if answer.status_code == requests.codes.unauthorized and challenge:
            self._authorization = self._log_in(challenge)
            answer = self._ask(url, self._authorization)
        if answer.status_code in _REFUSED:
            raise ImageError(explain(self._place.registry, "unauthorized"))
        return answer

    def _log_in(self, challenge: str) -> dict[str, str]:
        """The header that answers a ``WWW-Authenticate`` challenge, Basic or Bearer (RFC 6750, token API)."""
        scheme, _, rest = challenge.partition(" ")
        stored = {key.lower(): value for key, value in stored_login(self._place.registry).items()}
        user, password = stored.get("username"), stored.get("password")
        basic = requests.auth.HTTPBasicAuth(user, password) if user and password else _as_it_is
        if scheme.lower() == "basic":
            request = requests.Request("GET", self._base, auth=basic).prepare()
            return {"Authorization": request.headers.get("Authorization", "")}
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = fields.pop("realm")
        if urlsplit(self._base).scheme == "https" and urlsplit(realm).scheme != "https":
            raise ValueError(f"it wants a password without TLS at {realm}")
        answer = self._ask(realm, params=fields, auth=basic)
        if answer.status_code in _REFUSED:
            raise ImageError(explain(self._place.registry, "unauthorized"))
        answer.raise_for_status()
        tokens = answer.json()
        return {"Authorization": f"Bearer {tokens.get('token') or tokens['access_token']}"}

    def _ask(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        auth: Authorize = _as_it_is,
    ) -> requests.Response:
        return self._session.get(
            url,
            headers={"Accept": _ACCEPT, **(headers or {})},
            params=params,
            auth=auth,
            timeout=_TIMEOUT_S,
            verify=self._verify,
        )
