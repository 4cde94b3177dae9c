"""``smd images``: each command's own module is loaded when it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sipmediadeploy.cli.options import Json

app = typer.Typer(
    help="Builds, publishes and lists the images that replicas are made from.", no_args_is_help=True
)


@app.command()
def build() -> None:
    """Build the images of this checkout that are not there yet, and print all of them."""
    from sipmediadeploy.cli.role_images import build as run

    run()


@app.command()
def push(
    registry: Annotated[str, typer.Argument(metavar="REGISTRY[/PREFIX]", help="Where to.")],
    role: Annotated[list[str] | None, typer.Option(help="Only this role; may be repeated.")] = None,
    sbom: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write there what each image is made of.")
    ] = None,
) -> None:
    """Push this checkout's images as REGISTRY/PREFIX/ROLE, tagged with version and commit.

    The credentials are those that docker login stored.
    """
    from sipmediadeploy.cli.role_images import push as run

    run(registry, role or [], sbom)


@app.command(name="list")
def show(
    registry: Annotated[
        str | None, typer.Argument(metavar="[REGISTRY[/PREFIX]]", help="Those there, not those here.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the images of roles on this host or in a registry."""
    from sipmediadeploy.cli.role_images import show as run

    run(registry, json)


@app.command()
def sbom(
    role: Annotated[str, typer.Argument(help="The role whose image it is.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write it to this file.", show_default=False)
    ] = None,
) -> None:
    """Print what an image is made of (SBOM): a CycloneDX 1.5 document in JSON."""
    from sipmediadeploy.cli.role_images import sbom as run

    run(role, output)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many versions of each role are kept.")] = 3,
    cloud: Annotated[
        str | None, typer.Option(help="A cloud of clouds.yaml; without it: OS_CLOUD, or OS_*.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted.")] = False,
) -> None:
    """Delete old images of roles on OpenStack; those of versions that servers have now are kept."""
    from sipmediadeploy.cli.prune import prune as run

    raise typer.Exit(run(cloud, keep, dry_run))
