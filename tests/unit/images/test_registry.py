"""Registries: which names are places in one, and what errors about them tell a user to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipmediadeploy.images.inputs import ImageError
from sipmediadeploy.images.publish import digest_of, tags
from sipmediadeploy.images.registry import Place, explain, parse_place

PLACE = Place("registry.test:5000", "sip/media")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("registry.test", "registry.test/gateway"),
        ("registry.test:5000/sip/media", "registry.test:5000/sip/media/gateway"),
        ("localhost/x", "localhost/x/gateway"),
        ("docker.io/some-one", "docker.io/some-one/gateway"),
        ("127.0.0.1:5000/a.b/c__d/e--f", "127.0.0.1:5000/a.b/c__d/e--f/gateway"),
    ],
)
def test_images_are_named_after_the_place_and_the_role(text: str, name: str) -> None:
    assert parse_place(text).name("gateway") == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://registry.test/x", "leave https:// out"),
        ("someone", r"docker\.io/someone"),
        ("someone/project", r"docker\.io/someone/project"),
        ("", "nothing is no host name"),
        ("/x", "nothing is no host name"),
        ("registry.test:", "no host name or HOST:PORT"),
        ("registry.test:port/x", "no host name or HOST:PORT"),
        ("registry.test:65536/x", "no host name or HOST:PORT"),
        ("registry..test/x", "no host name or HOST:PORT"),
        ("registry.test/Upper", "'Upper' in the prefix: lower-case"),
        ("registry.test/x/", "'' in the prefix"),
        ("registry.test/x:tag", "'x:tag' in the prefix"),
        ("user:secret@registry.test/x", "no host name or HOST:PORT"),
    ],
)
def test_a_name_that_is_no_place_is_refused_with_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        parse_place(text)


@given(st.text(st.sampled_from("abZ09.:/_-@ é\n"), max_size=20))
def test_any_text_is_a_place_or_a_clear_error(text: str) -> None:
    try:
        place = parse_place(text)
    except ImageError:
        return
    assert place.name("gateway") == f"{text}/gateway"
    assert not set("@ é\n") & set(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1:5000", True), ("127.9.9.9", True), ("localhost:5000", True), ("192.0.2.1:5000", False)],
)
def test_only_a_registry_on_this_host_may_do_without_tls(host: str, loopback: bool) -> None:
    assert Place(host, "").is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Get https://r/v2/: dial tcp 127.0.0.1:1: connect: connection refused", "can't be reached"),
        ("dial tcp: lookup registry.test: no such host", "can't be reached"),
        ("Failed to resolve 'registry.test' ([Errno -2] Name or service not known)", "can't be reached"),
        ("net/http: request canceled (Client.Timeout exceeded)", "can't be reached"),
        ("no basic auth credentials", "docker login registry.test:5000"),
        ("denied: requested access to the resource is denied", "docker login registry.test:5000"),
        ("unauthorized: authentication required", "docker login registry.test:5000"),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("x509: certificate signed by unknown authority", "/etc/docker/certs.d/registry.test:5000/ca.crt"),
        ("manifest invalid", "registry registry.test:5000: manifest invalid"),
    ],
)
def test_an_error_names_the_registry_and_what_to_do(text: str, told: str) -> None:
    message = explain(PLACE.registry, text)
    assert told in message
    assert PLACE.registry in message


def test_images_are_tagged_with_the_version_and_with_the_commit_where_it_is_known() -> None:
    assert tags("0.1.0-abc", "0123456789abcdef" * 2) == ["0.1.0-abc", "0.1.0-abc-0123456789ab"]
    assert tags("0.1.0-abc", None) == ["0.1.0-abc"]


def test_a_push_ends_with_a_digest() -> None:
    lines: list[dict[str, object]] = [
        {"status": "Pushing"},
        {"aux": {"Tag": "1", "Digest": "sha256:aa"}},
        {"status": ""},
    ]
    assert digest_of(PLACE, lines) == "sha256:aa"


@pytest.mark.parametrize(
    ("line", "told"),
    [({"error": "no basic auth credentials"}, "docker login"), ({"status": "Pushing"}, "told no digest")],
)
def test_a_push_that_fails_is_never_taken_for_done(line: dict[str, str], told: str) -> None:
    with pytest.raises(ImageError, match=told):
        digest_of(PLACE, [line])
