"""A registry for images, Debian's docker-registry, in a container on this machine's network."""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
from collections.abc import Iterator

import docker
import requests

from sipmediadeploy.images.build import ensure_test_image
from tests.harness.ports import free_port

USER, PASSWORD = "me", "secret"
_HTPASSWD = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"  # bcrypt of PASSWORD
_CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: /tmp/registry}}}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: test, path: /tmp/htpasswd}}}}
"""
_SCRIPT = (
    'printf %s "$CONFIG" >/tmp/config.yml; printf %s "$HTPASSWD" >/tmp/htpasswd; '
    "exec docker-registry serve /tmp/config.yml"
)


@contextlib.contextmanager
def running_registry(engine: docker.DockerClient, listen: str = "127.0.0.1") -> Iterator[int]:
    """Start one that listens on an address of this machine; its port. Only :data:`USER` may use it."""
    port = free_port()
    container = engine.containers.run(
        ensure_test_image(engine, print),
        ["sh", "-c", _SCRIPT],
        name=f"smd-registry-{secrets.token_hex(2)}",
        environment={"CONFIG": _CONFIG.format(address=f"{listen}:{port}"), "HTPASSWD": _HTPASSWD},
        network_mode="host",
        detach=True,
    )
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/v2/")
        yield port
    finally:
        container.remove(force=True, v=True)


def login(registry: str, password: str = PASSWORD) -> dict[str, object]:
    """The file that ``docker login`` writes."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {"auths": {registry: {"auth": auth}}}


def _wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 30
    with requests.Session() as session:
        session.trust_env = False
        while True:
            with contextlib.suppress(requests.ConnectionError):
                assert session.get(url, timeout=5).status_code == requests.codes.unauthorized
                return
            assert time.monotonic() < deadline, f"not within 30 s: {url} answers"
            time.sleep(0.1)
