"""Bills of materials (SBOM): what an image is made of, as a CycloneDX 1.5 document in JSON.

Names of packages are package URLs (purl). The same image always gives the same document.
"""

from __future__ import annotations

import email.parser
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

_NAMESPACE = uuid.UUID("5d0bb1c5-5a4d-4fb1-8c1c-8f4d3a3b7a51")


@dataclass(frozen=True, slots=True, order=True)
class DebianPackage:
    """A package that dpkg knows as installed."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True, order=True)
class PythonPackage:
    """A Python distribution."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image is made of, and which image it is."""

    name: str
    """The image's name without its tag."""
    version: str
    """Its tag."""
    image_id: str
    """The digest of its configuration: ``sha256:`` and 64 hex digits."""
    created: str
    """When it was built (RFC 3339)."""
    labels: dict[str, str]
    release: dict[str, str] = field(default_factory=dict)
    """What its ``os-release`` says."""
    debian: frozenset[DebianPackage] = frozenset()
    python: frozenset[PythonPackage] = frozenset()


def parse_dpkg_status(text: str) -> frozenset[DebianPackage]:
    """The packages that are installed according to ``text``, the file ``/var/lib/dpkg/status`` (deb822)."""
    found = set()
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found.add(DebianPackage(fields["Package"], fields["Version"], fields["Architecture"]))
    return frozenset(found)


def parse_metadata(texts: Iterable[str]) -> frozenset[PythonPackage]:
    """The distributions whose core metadata files (``METADATA``) are ``texts``."""
    heads = (email.parser.HeaderParser().parsestr(text) for text in texts)
    return frozenset(PythonPackage(str(head["Name"]), str(head["Version"])) for head in heads)


def parse_release(text: str) -> dict[str, str]:
    """What ``text``, an ``os-release`` file, says (os-release(5))."""
    return dict(re.findall(r"^([A-Z_]+)=[\"']?(.*?)[\"']?$", text, re.MULTILINE))


def make_sbom(contents: Contents) -> str:
    """The document (JSON) that tells what an image is made of."""
    release = contents.release
    system, number = release.get("ID", "debian"), release.get("VERSION_ID", "")
    components = [_operating_system(system, number, release.get("PRETTY_NAME", ""))]
    distro = f"{system}-{number}" if number else system
    for deb in sorted(contents.debian):
        place = f"deb/{_escape(system)}/{_escape(deb.name)}@{_escape(deb.version)}"
        purl = f"pkg:{place}?arch={_escape(deb.architecture)}&distro={_escape(distro)}"
        properties = [{"name": "debian:architecture", "value": deb.architecture}]
        components.append({**_library(deb.name, deb.version, purl), "properties": properties})
    for package in sorted(contents.python):
        name = package.name.lower().replace("_", "-")
        purl = f"pkg:pypi/{_escape(name)}@{_escape(package.version)}"
        components.append(_library(package.name, package.version, purl))
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": re.sub(r"\.\d+", "", contents.created),
            "component": {
                "type": "container",
                "bom-ref": contents.image_id,
                "name": contents.name,
                "version": contents.version,
                "hashes": [{"alg": "SHA-256", "content": contents.image_id.removeprefix("sha256:")}],
                "properties": [
                    {"name": key, "value": value} for key, value in sorted(contents.labels.items())
                ],
            },
        },
        "components": components,
    }
    number_of_it = uuid.uuid5(_NAMESPACE, json.dumps(document, sort_keys=True))
    return json.dumps({**document, "serialNumber": f"urn:uuid:{number_of_it}"}, indent=2) + "\n"


def _operating_system(name: str, version: str, description: str) -> dict[str, Any]:
    found = {"type": "operating-system", "bom-ref": f"os:{name}", "name": name}
    return {**found, "version": version, "description": description}


def _library(name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _escape(text: str) -> str:
    return quote(text, safe=":")
