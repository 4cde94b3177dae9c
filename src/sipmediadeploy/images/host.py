"""The host's own way to Debian's packages, as far as it fits a Debian bookworm image."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
_SUITES = frozenset({SUITE, f"{SUITE}-updates", f"{SUITE}-security"})
_APT_SETTING = re.compile(
    r"^Acquire::(https?::|Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|Retries|ForceIPv[46])"
)
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_CA_IN_BUILD = "/build/host/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class HostPackages:
    """How this host gets Debian packages: apt settings, sources that fit, certificate authorities."""

    apt_conf: str
    """Lines for a file in ``apt.conf.d``: proxies, time-outs and the like; may be empty."""
    sources: str
    """One-line sources of Debian bookworm; empty when this host has none (Ubuntu, say)."""
    ca_bundle: str
    """PEM certificates that this host trusts; may be empty."""

    def files(self) -> dict[str, str]:
        """The files of the ``host/`` directory of a build context, by their place in it."""
        trust = f'Acquire::https::CAInfo "{_CA_IN_BUILD}";\n' if self.ca_bundle else ""
        files = {"host/apt/apt.conf.d/95host": self.apt_conf + trust}
        if self.ca_bundle:
            files["host/ca-certificates.crt"] = self.ca_bundle
        if self.sources:
            files["host/apt/sources.list"] = self.sources
        return files


def read_host() -> HostPackages:
    """What this host says; a host without apt says nothing."""
    dump = ""
    if shutil.which("apt-config"):
        result = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=20
        )
        dump = result.stdout
    etc = Path("/etc/apt")
    parts = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]
    deb822 = sorted(etc.glob("sources.list.d/*.sources"))
    return HostPackages(
        apt_conf=apt_settings(dump),
        sources=bookworm_sources(map(_read, parts), map(_read, deb822)),
        ca_bundle=_read(CA_BUNDLE),
    )


def apt_settings(dump: str) -> str:
    """Of ``apt-config dump``'s output, the lines on how packages are fetched, which hold in an image too."""
    lines = (line for line in dump.splitlines() if _APT_SETTING.match(line) and "CAInfo" not in line)
    return "".join(f"{line}\n" for line in lines)


def bookworm_sources(one_line: Iterable[str], deb822: Iterable[str]) -> str:
    """The sources of Debian bookworm's main component among a host's, as one-line entries without repetition.

    ``one_line`` are the texts of ``.list`` files, ``deb822`` those of ``.sources`` files (sources.list(5)).
    """
    found: dict[str, None] = {}
    for text in one_line:
        for line in text.splitlines():
            fields = re.sub(r"\[[^]]*\]", "", line.split("#")[0]).split()
            if len(fields) >= 4 and fields[0] == "deb":
                _add(found, [fields[1]], [fields[2]], fields[3:])
    for text in deb822:
        for stanza in re.split(r"\n\s*\n", text):
            keys = _stanza(stanza)
            if "deb" in keys.get("types", []) and keys.get("enabled", ["yes"]) != ["no"]:
                _add(found, keys.get("uris", []), keys.get("suites", []), keys.get("components", []))
    return "".join(f"{line}\n" for line in found)


def _add(found: dict[str, None], uris: list[str], suites: list[str], components: list[str]) -> None:
    if "main" in components:
        for uri in uris:
            for suite in suites:
                if suite in _SUITES and re.match(r"https?://", uri):
                    found[f"deb {uri} {suite} main"] = None


def _stanza(text: str) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    key = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            keys.setdefault(key, []).extend(line.split())
        elif ":" in line:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            keys[key] = value.split()
    return keys


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
