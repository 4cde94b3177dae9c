"""JSON Web Tokens that a gateway joins rooms with (RFC 7519; claims as in Jitsi's ``tokens.md``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sipmediadeploy.protocol.replica import TokenSigning

LIFETIME_S = 300
"""A token is made for each connection, and only looked at when that begins."""
CLOCK_SKEW_S = 60
"""The platform's clock may be so far behind."""


class BadKey(ValueError):
    """The key can't sign tokens; the text says why and never quotes it."""


def algorithm_of(key: str) -> str:
    """The signature that belongs to the key: RS256 or ES256 for a private key, HS256 for a shared secret.

    Raises:
        BadKey: it is empty, no private key, protected by a passphrase, or of another kind.
    """
    if not key.strip():
        raise BadKey("it is empty")
    if "-----BEGIN" not in key:
        return "HS256"
    try:
        loaded = load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise BadKey("it is protected by a passphrase; gateways have nobody to ask for it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("it is no private key in PEM form") from None
    if isinstance(loaded, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and isinstance(loaded.curve, ec.SECP256R1):
        return "ES256"
    raise BadKey("it is neither an RSA key nor one on the curve P-256")


def signer(signing: TokenSigning, domain: str, room: str, name: str) -> Callable[[], str]:
    """A function that makes a token, good from now on, for ``room`` and a participant called ``name``.

    Raises:
        BadKey: the key can't sign.
    """
    algorithm = algorithm_of(signing.key)
    key = signing.key.strip() if algorithm == "HS256" else signing.key

    def make() -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": signing.issuer,
            "aud": signing.audience,
            "sub": signing.subject or domain,
            "room": room,
            "nbf": now - CLOCK_SKEW_S,
            "exp": now + LIFETIME_S,
            "context": {"user": {"name": name}},
        }
        return jwt.encode(claims, key, algorithm, {"kid": signing.key_id} if signing.key_id else None)

    return make
