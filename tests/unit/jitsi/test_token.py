"""Tokens that gateways join with: what is in them, and keys that can't sign."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sipmediadeploy.gateway.conference.jitsi.token import BadKey, algorithm_of, signer
from sipmediadeploy.protocol.replica import TokenSigning

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
AnyKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: AnyKey, encryption: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


SHARED = "a secret of more than thirty-two characters"


@pytest.mark.parametrize(
    ("key", "verify", "algorithm"),
    [(SHARED + "\n", SHARED, "HS256"), (pem(RSA), public(RSA), "RS256"), (pem(EC), public(EC), "ES256")],
    ids=["shared", "rsa", "ec"],
)
def test_a_token_is_good_for_one_room_and_name_from_a_minute_ago_for_some_minutes(
    key: str, verify: str | bytes, algorithm: str
) -> None:
    signing = TokenSigning(key=key, issuer="gateways", key_id="k1")
    token = signer(signing, "meet.test", "team", "Room 101")()
    claims = jwt.decode(token, verify, [algorithm], audience="jitsi", issuer="gateways")
    assert (claims["sub"], claims["room"]) == ("meet.test", "team")
    assert claims["context"] == {"user": {"name": "Room 101"}}
    assert claims["nbf"] <= time.time() - 59
    assert 0 < claims["exp"] - time.time() <= 300
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k1", "typ": "JWT"}


def test_claims_that_platforms_ask_for_can_be_set() -> None:
    signing = TokenSigning(key=SHARED, issuer="chat", audience="ours", subject="tenant")
    token = signer(signing, "meet.test", "team", "Ann")()
    claims = jwt.decode(token, SHARED, ["HS256"], audience="ours")
    assert (claims["iss"], claims["sub"]) == ("chat", "tenant")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (" \n", "empty"),
        (public(RSA).decode(), "no private key"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no private key"),
        (pem(RSA, BestAvailableEncryption(b"pass")), "passphrase"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "neither"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither"),
    ],
)
def test_a_key_that_can_not_sign_is_refused_and_never_quoted(key: str, why: str) -> None:
    with pytest.raises(BadKey, match=why) as caught:
        algorithm_of(key)
    assert "AAAA" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_secret_is_in_what_a_log_would_show() -> None:
    assert SHARED not in repr(TokenSigning(key=SHARED, issuer="gateways"))
