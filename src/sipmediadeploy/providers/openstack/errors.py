"""What a cloud answers when it does not do what it was asked, as errors that an operator can act upon.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sipmediadeploy.providers.base import ProviderError

_LONGEST = 240


class QuotaExceeded(ProviderError):
    """The project has no more of what was asked for."""


class NoValidHost(ProviderError):
    """No host of the cloud has room for the server."""


class Missing(ProviderError):
    """Something that the stack needs is not in the cloud."""


class NotAllowed(ProviderError):
    """The credentials are not accepted, or may not do this."""


class Conflict(ProviderError):
    """Something is there already, or just being changed."""


class Refused(ProviderError):
    """The cloud calls the request wrong."""


class TooManyRequests(ProviderError):
    """The cloud limits the rate of requests."""


class Unavailable(ProviderError):
    """The cloud can't be reached, does not answer in time, or has an error of its own."""


def explain_status(what: str, status: int, headers: Mapping[str, str], body: str) -> ProviderError:
    """The error for an HTTP answer of 400 or more; ``what`` was being done."""
    said, after = _said(body), _retry_after(headers)
    if (status == 413 and after is None) or ("quota" in body.lower() and status in (400, 403, 409, 413)):
        hint = "free some, lower the pools' numbers, or ask for a higher quota"
        return QuotaExceeded(f"{what}: the project's quota is used up ({said})", after, hint=hint)
    if status == 401:
        return NotAllowed(
            f"{what}: the cloud does not accept the credentials (401: {said})",
            hint="renew them, and see that the application credential has not expired",
        )
    if status == 403:
        return NotAllowed(f"{what}: the credentials may not do this (403: {said})", hint="a role is missing")
    if status == 404:
        return Missing(f"{what}: not found ({said})")
    if status == 406:
        return Refused(
            f"{what}: the cloud's API is too old for this (406: {said})", hint="Nova must be Pike or newer"
        )
    if status == 409:
        return Conflict(f"{what}: {said}")
    if status in (413, 429):
        again = "it is tried again later" if after is None else f"it is tried again after {after:.0f} s"
        limited = f"{what}: the cloud limits the rate of requests ({status})"
        return TooManyRequests(limited, after, again=again)
    if status >= 500:
        own = f"{what}: the cloud has an error ({status}: {said})"
        return Unavailable(own, after, again="it is tried again")
    return Refused(f"{what}: the cloud refuses the request ({status}: {said})")


def explain_failure(what: str, error: Exception) -> ProviderError:
    """The error for an exception of openstacksdk or keystoneauth; ``what`` was being done."""
    status = getattr(error, "http_status", None) or getattr(error, "status_code", None)
    response = getattr(error, "response", None)
    if isinstance(status, int) and status >= 400:
        headers = response.headers if response is not None else {}
        return explain_status(what, status, headers, response.text if response is not None else str(error))
    kind, said = type(error).__name__, _short(str(error) or type(error).__name__)
    if "Timeout" in kind:
        return Unavailable(f"{what}: no answer from the cloud in time")
    if "SSL" in kind or "certificate verify failed" in said:
        return Unavailable(
            f"{what}: the cloud's certificate can't be verified ({said})", hint="set cacert for the cloud"
        )
    if "Connect" in kind or "Discovery" in kind or isinstance(error, OSError):
        return Unavailable(f"{what}: the cloud can't be reached ({said})")
    if kind in ("MissingRequiredOptions", "ConfigException", "NoMatchingPlugin", "MissingAuthPlugin"):
        return NotAllowed(f"{what}: the cloud's credentials are incomplete ({said})")
    return Unavailable(f"{what}: {said}")


def explain_fault(what: str, server: Mapping[str, Any], flavor: str, zone: str) -> ProviderError:
    """The error for a server that went to ERROR while it was made."""
    said = _short(str((server.get("fault") or {}).get("message") or "the cloud does not say why"))
    if "no valid host" in said.lower() or "not enough hosts" in said.lower():
        where = f" in zone {zone}" if zone else ""
        hint = "take a smaller flavour or another zone, or ask for room"
        return NoValidHost(f"{what}: no host has room for flavour {flavor}{where} ({said})", hint=hint)
    if "quota" in said.lower():
        return QuotaExceeded(f"{what}: the project's quota is used up ({said})")
    return Unavailable(f"{what}: the cloud could not make the server ({said})")


def _said(body: str) -> str:
    """The message in an answer's body: each service has its own form of it."""
    try:
        data = json.loads(body)
        one = next(iter(data.values()))
        return _short(str(one["message"] if isinstance(one, dict) and "message" in one else one))
    except (ValueError, AttributeError, StopIteration):
        return _short(body) or "it does not say why"


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    return float(value) if value.isdigit() else None
