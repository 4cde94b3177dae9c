"""The connection to a cloud: credentials, requests with time limits, pages of lists, worker threads.

Requests are openstacksdk's: it finds the endpoints, negotiates versions, and when a token has expired it
logs in anew and repeats the request once. It is imported when it is needed, since that takes a second.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack.errors import (
    NotAllowed,
    TooManyRequests,
    Unavailable,
    explain_failure,
    explain_status,
)

COMPUTE_VERSION = "2.52"
"""Nova's microversion (Pike, 2017): tags in the request that makes a server, and a filter by them."""
REQUEST_TIMEOUT_S = 30.0
_LONGEST_QUIET_S = 60.0
_PAGE = 500
_KEPT = ("auth", "auth_type", "region_name", "interface", "identity_api_version", "verify")
_KEPT_ENDS = ("_endpoint_override", "_api_version", "_service_type", "_service_name")

Service = Literal["compute", "network", "image", "block_storage"]
Body = dict[str, Any]
T = TypeVar("T")

_threads = ThreadPoolExecutor(32, thread_name_prefix="cloud")


def read_credentials(cloud: str | None) -> dict[str, Any]:
    """How to reach ``cloud`` of ``clouds.yaml`` (None: ``OS_CLOUD``, the only one, or ``OS_*``), as
    plain data.

    What authorities its certificate is verified by comes along as text, so that it can be sent to a
    scaler.

    Raises:
        ProviderError: there is no such cloud, or its credentials are incomplete.
    """
    import openstack.config

    what = f"credentials of the cloud {cloud}" if cloud else "the cloud's credentials"
    try:
        config = openstack.config.OpenStackConfig().get_one(cloud=cloud).config
        kept = {k: v for k, v in config.items() if k in _KEPT or k.endswith(_KEPT_ENDS)}
        if cacert := config.get("cacert"):
            kept["cacert_pem"] = Path(cacert).read_text(encoding="ascii")
        plain: dict[str, Any] = json.loads(json.dumps(kept))
    except Exception as e:  # openstacksdk's loaders raise many kinds, each with a message for users
        hint = "see openstack.cloud, clouds.yaml and OS_CLIENT_CONFIG_FILE"
        raise NotAllowed(f"{what}: {e}", hint=hint) from None
    if not plain.get("auth"):
        raise NotAllowed(
            f"{what}: there are none", hint="name a cloud of clouds.yaml (openstack.cloud), or set OS_*"
        )
    return plain


def cloud_environment(cloud: str | None) -> dict[str, str]:
    """What other programs find in their environment, so that they reach the cloud that is reached here.

    openstacksdk takes the only cloud of a ``clouds.yaml`` without being told its name; others do not.
    Credentials that can't be read are :func:`read_credentials`'s to tell of.
    """
    import openstack.config

    name = str(openstack.config.OpenStackConfig().get_one(cloud=cloud).name)
    return {} if name in ("envvars", "defaults") else {"OS_CLOUD": name}


class Cloud:
    """One connection. Its methods block, may be called by any thread, and raise ``ProviderError``."""

    def __init__(
        self, credentials: Callable[[], Mapping[str, Any]], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        """Nothing is read or sent yet. ``timeout_s``: how long the cloud may stay silent in one request."""
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: Any = None
        self._quiet_until = 0.0

    def get(self, what: str, service: Service, path: str, params: Mapping[str, Any] | None = None) -> Body:
        """One thing; ``what`` is being done, for errors."""
        return self._request(what, service, "GET", path, params=params)

    def post(
        self, what: str, service: Service, path: str, body: Body, timeout_s: float | None = None
    ) -> Body:
        """Make something; ``timeout_s``: in place of the connection's."""
        return self._request(what, service, "POST", path, json=body, timeout=timeout_s or self._timeout_s)

    def put(self, what: str, service: Service, path: str, body: Body) -> Body:
        """Change something."""
        return self._request(what, service, "PUT", path, json=body)

    def delete(self, what: str, service: Service, path: str, timeout_s: float | None = None) -> None:
        """Remove something; ``timeout_s``: in place of the connection's."""
        self._request(what, service, "DELETE", path, timeout=timeout_s or self._timeout_s)

    def all(
        self, what: str, service: Service, path: str, key: str, params: Mapping[str, Any] | None = None
    ) -> Iterator[Body]:
        """Every entry of a list, a page at a time: clouds cut long lists."""
        query = {"limit": _PAGE, **(params or {})}
        while True:
            body = self.get(what, service, path, query)
            yield from body[key]
            marker = _next_marker(body, key)
            if marker is None or query.get("marker") == marker:
                return
            query = {**query, "marker": marker}

    def date(self, what: str) -> float | None:
        """The time by the cloud's own clock (its ``Date`` header, cut to seconds); None: it does not say."""
        answer = self._answer(what, "network", "GET", "/networks", params={"limit": 1, "fields": "id"})
        try:
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return None

    @property
    def project(self) -> str:
        """The id of the project that the credentials are for."""
        what = "logging in to the cloud"
        return str(self._explained(what, lambda connection: connection.current_project_id))

    def close(self) -> None:
        """Let go of its sockets."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _request(self, what: str, service: Service, method: str, path: str, **more: Any) -> Body:
        answer = self._answer(what, service, method, path, **more)
        try:
            body: Body = answer.json() if answer.content else {}
        except ValueError:
            hint = "is it the right endpoint?"
            raise Unavailable(f"{what}: the cloud's answer is no JSON", hint=hint) from None
        return body

    def _answer(self, what: str, service: Service, method: str, path: str, **more: Any) -> Any:
        left = self._quiet_until - time.monotonic()
        if left > 0:
            raise TooManyRequests(f"{what}: the cloud wants to be left alone for {left:.0f} s more", left)
        if service == "compute":
            more["microversion"] = COMPUTE_VERSION
        answer = self._explained(
            what, lambda connection: getattr(connection, service).request(path, method, **more)
        )
        if answer.status_code >= 400:
            error = explain_status(what, answer.status_code, answer.headers, answer.text)
            if isinstance(error, TooManyRequests) and error.retry_after_s:
                self._quiet_until = time.monotonic() + min(error.retry_after_s, _LONGEST_QUIET_S)
            raise error
        return answer

    def _explained(self, what: str, call: Callable[[Any], T]) -> T:
        try:
            return call(self._connected())
        except ProviderError:
            raise
        except Exception as e:  # openstacksdk, keystoneauth and requests have no common base
            raise explain_failure(what, e) from None

    def _connected(self) -> Any:
        with self._lock:
            if self._connection is None:
                import openstack

                given = dict(self._credentials())
                if pem := given.pop("cacert_pem", None):
                    given["cacert"] = _written(pem)
                self._connection = openstack.connect(
                    load_yaml_config=False,
                    load_envvars=False,
                    app_name="sipmediadeploy",
                    api_timeout=self._timeout_s,
                    **given,
                )
            return self._connection


def _next_marker(body: Body, key: str) -> str | None:
    """The marker of the next page: Nova and Neutron give links, Glance one address."""
    links = body.get(f"{key}_links") or ()
    address = body.get("next") or next((one["href"] for one in links if one.get("rel") == "next"), "")
    return dict(parse_qsl(urlsplit(str(address)).query)).get("marker")


def _written(pem: str) -> str:
    """A file with certificate authorities, for as long as the process lives."""
    with tempfile.NamedTemporaryFile("w", prefix="smd-cloud-", suffix=".pem", delete=False) as file:
        file.write(pem)
    return file.name


async def in_thread(
    what: str, timeout_s: float, call: Callable[[], T], threads: ThreadPoolExecutor | None = None
) -> T:
    """Run the blocking ``call`` in a worker thread (of ``threads``); ``what`` names it in errors.

    The thread itself is bounded by the time limit of each request, and cleans up after itself.

    Raises:
        ProviderError: ``call`` raised it, or did not end in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().run_in_executor(threads or _threads, call)
    except TimeoutError:
        raise Unavailable(f"{what}: not done by the cloud within {timeout_s:.0f} s") from None
