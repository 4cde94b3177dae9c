"""Bills of materials: complete, valid by the standard's schema, and the same for the same image."""

from __future__ import annotations

import json
from dataclasses import replace

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from sipmediadeploy.images.contents import is_metadata
from sipmediadeploy.images.sbom import (
    Contents,
    DebianPackage,
    PythonPackage,
    make_sbom,
    parse_dpkg_status,
    parse_metadata,
    parse_release,
)

STATUS = """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Source: gcc-12
Version: 12.2.0-14+deb12u1
Description: GNU Standard C++ Library v3
 This package contains
 Version: of nothing

Package: half
Status: install ok half-configured
Architecture: amd64
Version: 1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 2

Package: tzdata
Status: install ok installed
Version: 1:2024a-0~deb12u1
Architecture: all
"""
METADATA = "Metadata-Version: 2.4\nName: Typing_Extensions\nVersion: 4.16.0\n\nVersion: 9 is in the text\n"
CONTENTS = Contents(
    name="smd/coturn",
    version="0.1.0-0123456789ab",
    image_id=f"sha256:{'0a' * 32}",
    created="2026-11-28T04:30:37.123456789Z",
    labels={"smd.image": "coturn", "smd.version": "0.1.0-0123456789ab"},
    release=parse_release('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'),
    debian=parse_dpkg_status(STATUS),
    python=parse_metadata([METADATA]),
)


def test_what_dpkg_has_installed_is_found_and_what_it_has_removed_is_not() -> None:
    assert parse_dpkg_status(STATUS) == {
        DebianPackage("libstdc++6", "12.2.0-14+deb12u1", "amd64"),
        DebianPackage("tzdata", "1:2024a-0~deb12u1", "all"),
    }


def test_a_distribution_is_known_by_the_head_of_its_metadata() -> None:
    assert parse_metadata([METADATA]) == {PythonPackage("Typing_Extensions", "4.16.0")}
    assert is_metadata("site-packages/docker-7.2.0.dist-info/METADATA")
    assert not is_metadata("site-packages/pkg/_vendor/other-1.dist-info/METADATA")


def test_the_document_is_valid_by_the_schema_of_cyclonedx() -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_5)
    assert validator.validate_str(make_sbom(CONTENTS)) is None
    broken = make_sbom(replace(CONTENTS, image_id="sha256:short"))
    assert validator.validate_str(broken) is not None


def test_scanners_find_each_package_by_its_purl_and_the_distribution() -> None:
    document = json.loads(make_sbom(CONTENTS))
    assert document["metadata"]["component"]["name"] == "smd/coturn"
    kinds = [component["type"] for component in document["components"]]
    assert kinds == ["operating-system", "library", "library", "library"]
    system, *libraries = document["components"]
    assert (system["name"], system["version"]) == ("debian", "12")
    purls = [PackageURL.from_string(library["purl"]) for library in libraries]
    assert [(purl.type, purl.namespace, purl.name, purl.version) for purl in purls] == [
        ("deb", "debian", "libstdc++6", "12.2.0-14+deb12u1"),
        ("deb", "debian", "tzdata", "1:2024a-0~deb12u1"),
        ("pypi", None, "typing-extensions", "4.16.0"),
    ]
    assert purls[0].qualifiers == {"arch": "amd64", "distro": "debian-12"}
    assert libraries[0]["purl"].startswith("pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?")


def test_the_same_image_gives_the_same_document_and_another_one_another() -> None:
    again = replace(CONTENTS, labels=dict(reversed(CONTENTS.labels.items())))
    assert make_sbom(again) == make_sbom(CONTENTS)
    more = replace(CONTENTS, python=CONTENTS.python | {PythonPackage("new", "1")})
    numbers = {json.loads(make_sbom(one))["serialNumber"] for one in (CONTENTS, more)}
    assert len(numbers) == 2
