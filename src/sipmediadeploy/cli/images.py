"""``smd images``: each command's own module is loaded when it is run."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Builds, publishes and lists the images that replicas are made from.", no_args_is_help=True
)


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
