"""The key of the scalers' API over HTTPS, and how clients know that it is theirs.

Key and certificate are a function of the master secret and the stack's name. So all scalers of a stack
have the same, nothing has to be sent or renewed, and who has the secrets file knows it beforehand: a
client accepts this one certificate and no authority. Who lacks the master secret can't be that server.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sipmediadeploy.protocol.secrets import derive_bytes

_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""For a certificate that does not end (RFC 5280, section 4.1.2.5): it goes with the master secret."""
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SIPMediaDeploy scalers")])


def server_context(master: str, stack: str) -> ssl.SSLContext:
    """For scalers: TLS 1.3 only. Blocking, some milliseconds."""
    key = _key(master, stack)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The ssl module takes keys from files only; this one is in memory and has no name.
    with os.fdopen(os.memfd_create("scaler-api"), "wb") as file:
        file.write(pem + _certificate(key))
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def client_context(master: str, stack: str) -> ssl.SSLContext:
    """For clients: TLS 1.3, and no other certificate than that of the stack's scalers.

    Names are not compared: a scaler is reached by whatever address leads to it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(cadata=_certificate(_key(master, stack)).decode())
    return context


def _key(master: str, stack: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive_bytes(master, f"scaler-tls:{stack}"))


def _certificate(key: Ed25519PrivateKey) -> bytes:
    """PEM; always the same, since signatures by Ed25519 are (RFC 8032). It may sign no other one."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(key.public_key().public_bytes_raw()[:8]) + 1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, None).public_bytes(Encoding.PEM)
