"""Secrets: one master secret per stack, from which every other one is derived by HMAC-SHA256.

A replica gets only what is derived for it, so that no replica can speak for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Secrets(BaseModel):
    """What a stack keeps to itself. Scalers have all of it; it is never printed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    master: str = Field(repr=False)
    conference_token: str | None = Field(default=None, repr=False, description="JSON Web Token to join with")
    conference_key: str | None = Field(default=None, repr=False, description="key that signs such tokens")
    cloud: dict[str, Any] | None = Field(
        default=None, repr=False, description="how the cloud is reached: one cloud's entry of clouds.yaml"
    )


def derive(master: str, purpose: str) -> str:
    """The secret for ``purpose``: 43 URL-safe characters, always the same for the same two inputs."""
    return base64.urlsafe_b64encode(derive_bytes(master, purpose)).rstrip(b"=").decode()


def derive_bytes(master: str, purpose: str) -> bytes:
    """The same as 32 bytes, for what is a key and not a word."""
    return hmac.new(master.encode(), purpose.encode(), hashlib.sha256).digest()


def agent_token(master: str, replica: str) -> str:
    """The bearer token of the agent API of the replica named ``replica``."""
    return derive(master, f"agent:{replica}")


def turn_secret(master: str) -> str:
    """The shared secret of the TURN servers' ephemeral credentials."""
    return derive(master, "turn")


def turn_credentials(
    secret: str, user: str, lifetime_s: int = 86_400, now: float | None = None
) -> tuple[str, str]:
    """Username and password of ephemeral TURN credentials.

    Source: draft-uberti-behave-turn-rest-00, section 2.2: the username is ``EXPIRY:USER``, the password
    base64(HMAC-SHA1(secret, username)); coturn's ``use-auth-secret``.
    """
    expiry = int(time.time() if now is None else now) + lifetime_s
    username = f"{expiry}:{user}"
    mac = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(mac).decode()
