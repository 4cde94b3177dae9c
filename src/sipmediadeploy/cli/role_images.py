"""``smd images build``, ``push``, ``list`` and ``sbom``: the images of roles, here and in registries."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.stackrun import engine_errors
from sipmediadeploy.images import inputs, labels, publish
from sipmediadeploy.images.build import ensure_images
from sipmediadeploy.images.contents import read_contents
from sipmediadeploy.images.inputs import ROLES
from sipmediadeploy.images.local import LocalImage, list_local
from sipmediadeploy.images.published import Published, list_published
from sipmediadeploy.images.registry import parse_place
from sipmediadeploy.images.sbom import make_sbom
from sipmediadeploy.providers.docker.engine import connect, ensure_engine
from sipmediadeploy.providers.docker.labels import image_name
from sipmediadeploy.stack import Role

_PUSH_SILENT_S = 300
_SHORT = 12


def build() -> None:
    """Build the images that are not there; a line for each that is there then."""
    client = ensure_engine(_progress)
    version = ensure_images(client, _progress)
    with engine_errors("the images can't be looked at"):
        rows = []
        for role in ROLES:
            attrs = client.images.get(image_name(role, version)).attrs
            rows.append((image_name(role, version), _megabytes(attrs["Size"]), attrs["Id"]))
    _print_rows(rows)


def push(registry: str, names: Sequence[str], sbom: Path | None) -> None:
    """Push the images of the roles called ``names`` (none: of all), and print each tag with its digest."""
    place = parse_place(registry)
    roles = [_role(name) for name in names] or list(ROLES)
    root = inputs.project_root()
    version = inputs.images_version(root)
    revision = labels.find_revision(root, inputs.INPUTS)
    ensure_engine(_progress)
    client = connect(_PUSH_SILENT_S)
    with engine_errors("the images can't be pushed"):
        publish.require(client, roles, version)
        for role in roles:
            if sbom is not None:
                text = make_sbom(read_contents(client, image_name(role, version)))
                _write(sbom / f"{role}-{version}.cdx.json", text)
            _progress(f"image {role}: pushing to {place.registry}")
            for pushed in publish.push(client, place, role, version, revision):
                print(f"{pushed.name}  {pushed.digest}", flush=True)
    if revision is None:
        _progress("no tag with a commit: what images are made from is not committed here, or this is no git")


def show(registry: str | None, as_json: bool) -> None:
    """Print the images of roles on this host, or those at ``registry``."""
    found: Sequence[LocalImage | Published]
    if registry is None:
        with engine_errors("the images can't be listed"):
            found = list_local(ensure_engine(_progress))
    else:
        found = list_published(parse_place(registry), map(str, ROLES))
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    elif found:
        _print_rows([_row(one) for one in found])
    else:
        _progress("no images here: smd images build" if registry is None else f"no images at {registry}")


def sbom(name: str, output: Path | None) -> None:
    """Print, or write to ``output``, what the image of the role called ``name`` is made of."""
    image = image_name(role := _role(name), version := inputs.images_version(inputs.project_root()))
    client = ensure_engine(_progress)
    with engine_errors(f"image {image} can't be read"):
        publish.require(client, [role], version)
        text = make_sbom(read_contents(client, image))
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)


def _role(name: str) -> Role:
    if name not in map(str, ROLES):
        raise CommandError(f"{name}: no role has this name. There are: {', '.join(ROLES)}")
    return Role(name)


def _row(image: LocalImage | Published) -> tuple[str, ...]:
    name = f"{image.name}:{image.tag}"
    if isinstance(image, Published):
        return name, _megabytes(image.size), image.digest
    return name, _megabytes(image.size), image.id, image.created, (image.revision or "")[:_SHORT]


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f} MB"


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise CommandError(f"{path}: can't be written: {e.strerror}") from None


def _progress(line: str) -> None:
    print(f"smd: {line}", file=sys.stderr, flush=True)
