"""Listing a registry, with the credentials that were stored or without."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from sipmediadeploy.images.inputs import ImageError
from sipmediadeploy.images.published import Published, list_published
from sipmediadeploy.images.registry import Place
from tests.harness.ports import free_port

PASSWORD = base64.b64encode(b"me:secret").decode()


@dataclass
class Theatre:
    """What a registry on this host has, and how it wants to be asked."""

    place: Place
    auth: str = ""
    """Basic, Bearer, or none."""
    tags: list[str] = field(default_factory=lambda: ["2", "1"])
    next_page: str = "/v2/x/coturn/tags/list?last=1"
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    theatre: Theatre

    def do_GET(self) -> None:
        self.theatre.asked.append(self.path)
        url = urlsplit(self.path)
        given = self.headers.get("Authorization", "")
        realm = f"http://{self.theatre.place.registry}"
        if url.path == "/token":
            wanted = {"service": ["it"], "scope": ["repository:x/coturn:pull"]}
            good = parse_qs(url.query) == wanted and given == f"Basic {PASSWORD}"
            self.answer(200 if good else 401, {"token": "t0ken"})
        elif self.theatre.auth == "Basic" and given != f"Basic {PASSWORD}":
            self.answer(401, {}, {"WWW-Authenticate": 'Basic realm="it"'})
        elif self.theatre.auth == "Bearer" and given != "Bearer t0ken":
            scope = 'service="it",scope="repository:x/coturn:pull"'
            self.answer(401, {}, {"WWW-Authenticate": f'Bearer realm="{realm}/token",{scope}'})
        elif url.path == "/v2/x/coturn/tags/list" and url.query:
            self.answer(200, {"tags": ["3"]})
        elif url.path == "/v2/x/coturn/tags/list":
            link = {"Link": f'<{self.theatre.next_page}>; rel="next"'} if self.theatre.next_page else {}
            self.answer(200, {"tags": self.theatre.tags}, link)
        elif url.path == "/v2/x/coturn/manifests/3":
            self.answer(200, {"manifests": []}, {"Docker-Content-Digest": "sha256:3"})
        elif url.path.startswith("/v2/x/coturn/manifests/"):
            digest = {"Docker-Content-Digest": f"sha256:{url.path[-1]}"}
            self.answer(200, {"layers": [{"size": 10}, {"size": 20}]}, digest)
        elif url.path == "/v2/other/coturn/tags/list":
            self.answer(200, "hello")
        else:
            self.answer(404, {"errors": []})

    def answer(self, code: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def theatre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Theatre]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = Place(f"127.0.0.1:{server.server_address[1]}", "x")
    Handler.theatre = Theatre(place)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Handler.theatre
    server.shutdown()
    thread.join()
    server.server_close()


def log_in(directory: Path, place: Place, password: str) -> None:
    (directory / "config.json").write_text(json.dumps({"auths": {place.registry: {"auth": password}}}))


def test_every_tag_of_every_page_is_listed_with_digest_and_size(theatre: Theatre) -> None:
    name = f"{theatre.place.registry}/x/coturn"
    assert list_published(theatre.place, ["coturn", "gateway"]) == [
        Published(name, "1", "sha256:1", 30),
        Published(name, "2", "sha256:2", 30),
        Published(name, "3", "sha256:3", None),
    ]


@pytest.mark.parametrize("auth", ["Basic", "Bearer"])
def test_the_password_that_docker_login_stored_is_used(theatre: Theatre, tmp_path: Path, auth: str) -> None:
    theatre.auth = auth
    log_in(tmp_path, theatre.place, PASSWORD)
    assert len(list_published(theatre.place, ["coturn"])) == 3


@pytest.mark.parametrize("auth", ["Basic", "Bearer"])
@pytest.mark.parametrize("password", ["", base64.b64encode(b"me:wrong").decode()])
def test_who_is_not_logged_in_is_told_so(theatre: Theatre, tmp_path: Path, auth: str, password: str) -> None:
    theatre.auth = auth
    if password:
        log_in(tmp_path, theatre.place, password)
    with pytest.raises(ImageError, match=f"docker login {theatre.place.registry}"):
        list_published(theatre.place, ["coturn"])


def test_the_password_does_not_follow_a_link_to_another_host(theatre: Theatre) -> None:
    theatre.next_page = f"http://localhost:{free_port()}/v2/x/coturn/tags/list?last=1"
    with pytest.raises(ImageError, match="it leads to http://localhost"):
        list_published(theatre.place, ["coturn"])


def test_a_repository_whose_tags_are_all_deleted_is_empty(theatre: Theatre) -> None:
    theatre.tags, theatre.next_page = [], ""
    assert list_published(theatre.place, ["coturn"]) == []


def test_a_server_that_is_no_registry_is_a_clear_error(theatre: Theatre) -> None:
    place = Place(theatre.place.registry, "other")
    with pytest.raises(ImageError, match=f"registry {place.registry} does not answer as one"):
        list_published(place, ["coturn"])


def test_where_nobody_listens_the_registry_is_named() -> None:
    place = Place(f"127.0.0.1:{free_port()}", "")
    with pytest.raises(ImageError, match=f"registry {place.registry} can't be reached"):
        list_published(place, ["coturn"])
