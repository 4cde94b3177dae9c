"""Places in container registries: their names, and what errors about them mean."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from docker.auth import load_config

from sipmediadeploy.images.inputs import ImageError

_HOST = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
CERTIFICATES = Path("/etc/docker/certs.d")
"""Where the engine looks for authorities of registries, in HOST:PORT/ca.crt."""
_UNREACHABLE = (
    "connection refused",
    "no such host",
    "failed to resolve",
    "timeout",
    "timed out",
    "no route to host",
    "unreachable",
    "eof",
)
_FORBIDDEN = ("unauthorized", "no basic auth credentials", "authentication required", "denied")


@dataclass(frozen=True, slots=True)
class Place:
    """A place for images in a registry."""

    registry: str
    """HOST or HOST:PORT."""
    prefix: str
    """The path before the names of images; may be empty."""

    def repository(self, role: str) -> str:
        """The name of the repository of ``role``, without the registry."""
        return f"{self.prefix}/{role}" if self.prefix else role

    def name(self, role: str) -> str:
        """The name of the image of ``role``, without a tag."""
        return f"{self.registry}/{self.repository(role)}"

    @property
    def is_loopback(self) -> bool:
        """It is on this host, where the engine does without HTTPS as well."""
        host = self.registry.rpartition(":")[0] or self.registry
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def parse_place(text: str) -> Place:
    """The place that ``text`` (REGISTRY[/PREFIX]) names.

    Raises:
        ImageError: it names none.
    """
    registry, _, prefix = text.partition("/")
    host, colon, port = registry.partition(":")
    what = f"{text}: not the name of a place in a registry"
    if "://" in text:
        raise ImageError(f"{what}: leave {text.partition('://')[0]}:// out (HOST[:PORT][/PREFIX])")
    if not _HOST.fullmatch(host) or (colon and not (port.isascii() and port.isdigit() and int(port) < 65536)):
        raise ImageError(f"{what}: {registry or 'nothing'} is no host name or HOST:PORT")
    if "." not in host and not colon and host != "localhost":
        raise ImageError(f"{what}: {host} is no full host name (of Docker Hub it is docker.io/{text})")
    for part in prefix.split("/") if "/" in text else ():
        if not _PART.fullmatch(part):
            raise ImageError(
                f"{what}: '{part}' in the prefix: lower-case letters and digits, "
                "with single '.', '_' or '-' between them"
            )
    return Place(registry, prefix)


def stored_login(registry: str) -> dict[str, str]:
    """What ``docker login`` stored for ``registry``, as the engine takes it; empty: nothing.

    Raises:
        DockerException: the file or the program that keeps it does not work.
    """
    return load_config().resolve_authconfig(registry) or {}


def explain(registry: str, text: str) -> str:
    """What the engine's or a connection's error ``text`` about ``registry`` means, and what to do."""
    low = text.lower()
    if "http response to https client" in low:
        hint = "add it to insecure-registries in /etc/docker/daemon.json, or give it a certificate"
        return f"registry {registry} speaks HTTP without TLS: {hint}"
    if "x509" in low or "certificate verify failed" in low:
        hint = f"put the certificate of its authority into {CERTIFICATES / registry / 'ca.crt'}"
        return f"registry {registry}: its certificate is not trusted here: {hint} ({text})"
    if any(word in low for word in _FORBIDDEN):
        return (
            f"registry {registry} refuses: log in with an account that may do this: docker login {registry}"
        )
    if any(word in low for word in _UNREACHABLE):
        return f"registry {registry} can't be reached: is the name right, and does it run? ({text})"
    return f"registry {registry}: {text}"
