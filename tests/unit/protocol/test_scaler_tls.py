"""Who has the master secret knows the scalers, and nobody else can be one."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from cryptography import x509

from sipmediadeploy.protocol.scaler_tls import client_context, server_context

MASTER = "m" * 43


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end of a connection, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server)
    ends = [here, there]
    for _ in range(10):
        for end in list(ends):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                ends.remove(end)
    assert ends == []
    return here


def shown(master: str, stack: str) -> bytes:
    """The certificate that a server shows."""
    found = handshake(server_context(master, stack), client_context(master, stack)).getpeercert(True)
    assert found is not None
    return found


def test_client_and_server_meet_by_the_master_secret_alone() -> None:
    end = handshake(server_context(MASTER, "demo"), client_context(MASTER, "demo"))
    assert end.version() == "TLSv1.3"


def test_the_certificate_is_always_the_same_and_never_ends() -> None:
    once = shown(MASTER, "demo")
    assert once == shown(MASTER, "demo"), "a scaler that is replaced is not a stranger"
    read = x509.load_der_x509_certificate(once)
    assert read.not_valid_after_utc.year == 9999
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(("master", "stack"), [("n" * 43, "demo"), (MASTER, "other")])
def test_another_stack_or_another_secrets_file_is_refused(master: str, stack: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(master, stack), client_context(MASTER, "demo"))


def test_older_versions_of_tls_are_refused_on_both_sides() -> None:
    old = client_context(MASTER, "demo")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL"):
        handshake(server_context(MASTER, "demo"), old)
    older = server_context(MASTER, "demo")
    older.minimum_version, older.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL"):
        handshake(older, client_context(MASTER, "demo"))
