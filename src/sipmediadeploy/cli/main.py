"""The ``smd`` command. Each command's own module is loaded when it is run, so that help is fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sipmediadeploy.cli import images
from sipmediadeploy.cli.deploy_plan import Way
from sipmediadeploy.cli.errors import INTERRUPTED, USER_ERROR, is_user_error
from sipmediadeploy.cli.options import Json
from sipmediadeploy.cli.place import Place

app = typer.Typer(
    name="smd",
    help="Deploys, scales and keeps alive a fleet of SIP media gateways.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(images.app, name="images")

StackFile = Annotated[
    Path, typer.Option("--stack", envvar="SMD_STACK", help="The stack file.", show_default=True)
]
_DEFAULT = Path("stack.yaml")
Api = Annotated[
    str | None,
    typer.Option(
        "--api",
        envvar="SMD_API",
        metavar="ADDRESS[:PORT]",
        help="Where the scalers' API of a stack elsewhere is; without it: its floating IP.",
    ),
]


def _place(stack_file: Path) -> Place:
    return Place(stack_file.absolute())


@app.command()
def init(
    stack: StackFile = _DEFAULT,
    name: Annotated[str, typer.Option(help="The stack's name.")] = "demo",
    domain: Annotated[str, typer.Option(help="The SIP domain.")] = "sip.example.org",
) -> None:
    """Write a commented stack file and the secrets (never over existing ones)."""
    from sipmediadeploy.cli.config import init as run

    run(_place(stack), name, domain)


@app.command()
def config(stack: StackFile = _DEFAULT, json: Json = False) -> None:
    """Print the effective stack: the stack file with every default filled in."""
    from sipmediadeploy.cli.config import config as run

    run(_place(stack), json)


@app.command()
def doctor(stack: StackFile = _DEFAULT, json: Json = False) -> None:
    """Look at all that a deployment needs, and say what to do. Exit code 1: something is in the way."""
    from sipmediadeploy.cli.doctor import doctor as run

    raise typer.Exit(run(_place(stack), json))


@app.command()
def up(
    stack: StackFile = _DEFAULT,
    timeout: Annotated[float, typer.Option(help="Seconds that the stack may take to be whole.")] = 240.0,
) -> None:
    """Bring the stack up, and wait until it is whole. Safe to repeat."""
    from sipmediadeploy.cli.up import up as run

    run(_place(stack), timeout)


_Foundation = Annotated[
    bool,
    typer.Option(
        "--foundation", help="On OpenStack without Terraform: networks, router and security groups as well."
    ),
]


@app.command()
def bootstrap(stack: StackFile = _DEFAULT, foundation: _Foundation = False) -> None:
    """Make the first scaler of a stack on OpenStack, which makes all else. Safe to repeat."""
    from sipmediadeploy.cli.bootstrap import bootstrap as run

    run(_place(stack), foundation)


@app.command()
def deploy(
    stack: StackFile = _DEFAULT,
    yes: Annotated[bool, typer.Option("--yes", help="Apply the plan of Terraform without asking.")] = False,
    foundation: Annotated[
        Way | None,
        typer.Option(
            help="Who makes networks, router and security groups; without it Terraform or OpenTofu where one "
            "is installed, else smd."
        ),
    ] = None,
    terraform_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A copy of deploy/terraform/example; without it: that one."),
    ] = None,
    packer_flavor: Annotated[
        str | None, typer.Option(help="For builds; without it: the smallest with 2 GiB.")
    ] = None,
    packer_network: Annotated[
        str | None, typer.Option(help="For builds; without it one is made, and removed again.")
    ] = None,
    packer_image: Annotated[
        str, typer.Option(help="An image of Debian 12, from which those of roles are built.")
    ] = "debian-12",
    packer_apt_proxy: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An HTTP proxy by which builds reach Debian's packages."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the stack may take to be whole.")] = 900.0,
    api: Api = None,
) -> None:
    """Bring a whole stack up on OpenStack, step by step, and wait until it is whole. Safe to repeat.

    Images of roles by Packer, the network by Terraform, then the scalers make the rest.
    """
    from sipmediadeploy.cli.deploy import Order
    from sipmediadeploy.cli.deploy import deploy as run
    from sipmediadeploy.cli.deploy_images import BuildOptions

    builds = BuildOptions(packer_flavor, packer_network, packer_image, packer_apt_proxy)
    run(_place(stack), Order(yes, foundation, terraform_dir, builds, timeout, api))


@app.command()
def down(stack: StackFile = _DEFAULT, foundation: _Foundation = False) -> None:
    """Remove all that was made for the stack, and nothing else. The stack file and secrets stay."""
    from sipmediadeploy.cli.down import down as run

    run(_place(stack), foundation)


@app.command()
def status(stack: StackFile = _DEFAULT, json: Json = False, api: Api = None) -> None:
    """Show the replicas and their states. Exit code 1: the stack is not whole."""
    from sipmediadeploy.cli.status import status as run

    raise typer.Exit(run(_place(stack), json, api))


@app.command()
def logs(
    replica: Annotated[str, typer.Argument(help="A replica's name, as smd status shows it.")],
    stack: StackFile = _DEFAULT,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
    api: Api = None,
) -> None:
    """Print the logs of a replica. With -f, of a stack on OpenStack, it calls ssh."""
    from sipmediadeploy.cli.logs import logs as run

    raise typer.Exit(run(_place(stack), replica, lines, follow, api))


@app.command()
def events(
    stack: StackFile = _DEFAULT,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last ones.")] = 50,
    json: Json = False,
    api: Api = None,
) -> None:
    """Print the audit trail: what the scalers saw, decided and did, and why."""
    from sipmediadeploy.cli.operate import events as run

    run(_place(stack), lines, json, api)


@app.command()
def watch(stack: StackFile = _DEFAULT, api: Api = None) -> None:
    """Show replicas, problems and events live, until interrupted."""
    from sipmediadeploy.cli.operate import watch as run

    run(_place(stack), api)


@app.command()
def failover(
    pool: Annotated[str, typer.Argument(help="kamailio, coturn or scaler.")],
    stack: StackFile = _DEFAULT,
    api: Api = None,
) -> None:
    """Make another replica of a pool the active one, in order: no call is lost."""
    from sipmediadeploy.cli.operate import command as run

    run(_place(stack), "failover", pool, api)


Replica = Annotated[str, typer.Argument(help="A replica's name, as smd status shows it.")]


@app.command()
def drain(replica: Replica, stack: StackFile = _DEFAULT, api: Api = None) -> None:
    """Have a replica take no new work; calls go on. Only undrain ends this."""
    from sipmediadeploy.cli.operate import command as run

    run(_place(stack), "drain", replica, api)


@app.command()
def undrain(replica: Replica, stack: StackFile = _DEFAULT, api: Api = None) -> None:
    """Have a replica that was drained take work again."""
    from sipmediadeploy.cli.operate import command as run

    run(_place(stack), "undrain", replica, api)


@app.command()
def replace(replica: Replica, stack: StackFile = _DEFAULT, api: Api = None) -> None:
    """Have a replica replaced by a new one, in order: no call is lost."""
    from sipmediadeploy.cli.operate import command as run

    run(_place(stack), "replace", replica, api)


@app.command()
def pause(stack: StackFile = _DEFAULT, api: Api = None) -> None:
    """Have the scalers watch only, until they are resumed."""
    from sipmediadeploy.cli.operate import command as run

    run(_place(stack), "pause", "", api)


@app.command()
def resume(stack: StackFile = _DEFAULT, api: Api = None) -> None:
    """Have the scalers act again."""
    from sipmediadeploy.cli.operate import command as run

    run(_place(stack), "resume", "", api)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def call(
    context: typer.Context,
    room: Annotated[str, typer.Argument(help="The room: the user part of the SIP address.")],
    stack: StackFile = _DEFAULT,
    seconds: Annotated[float, typer.Option(min=1, help="How long the call lasts.")] = 10.0,
    json: Json = False,
    snapshot: Annotated[Path | None, typer.Option(help="Save the last picture that came back (PNG).")] = None,
    file: Annotated[Path | None, typer.Option(help="Send this file, not the generated picture.")] = None,
    to: Annotated[
        str | None, typer.Option(help="ADDRESS or ADDRESS:PORT to call, not the service address.")
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Bring no second terminal into the room.")] = False,
    api: Api = None,
) -> None:
    """Place a real SIP call with sound and picture. Exit code 1: sound or picture did not arrive.

    A stack on OpenStack is called at its floating IP, from a container in this machine's network.
    Other options are the test client's own (--audio-only, --codec, --transport, ...).
    """
    from sipmediadeploy.cli.call import Call
    from sipmediadeploy.cli.call import call as run

    order = Call(room, seconds, json, snapshot, file, to, alone, tuple(context.args))
    raise typer.Exit(run(_place(stack), order, api))


@app.command()
def node(
    status: Annotated[bool, typer.Option("--status", help="Ask the agent that runs here.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is ready.")] = 0.0,
) -> None:
    """Run the agent of a replica. Replicas do this by themselves.

    With --status: print what it says of itself. Exit code 1: it is not ready.
    """
    if status:
        from sipmediadeploy.cli.servers import status as ask

        raise typer.Exit(ask(wait))
    from sipmediadeploy.cli.node import node as run

    raise typer.Exit(run())


@app.command()
def application(
    directory: Annotated[Path, typer.Argument(help="Where to.")] = Path(".cache/application"),
) -> None:
    """Write the application for servers, for deploy/ansible and deploy/packer. Nothing is done twice."""
    from sipmediadeploy.cli.servers import application as run

    run(directory)


@app.command()
def document(
    host: Annotated[str, typer.Argument(help="The host's name.")],
    hosts: Annotated[str, typer.Option(help="The file that describes all hosts (YAML); -: standard input.")],
    stack: StackFile = _DEFAULT,
) -> None:
    """Print the replica document of a host that is there already (deploy/ansible). It holds secrets."""
    from sipmediadeploy.cli.servers import document as run

    run(_place(stack), host, hosts)


@app.command()
def token(
    replica: Annotated[
        str | None, typer.Argument(help="For the agent of this replica; without it: for the scalers.")
    ] = None,
    stack: StackFile = _DEFAULT,
) -> None:
    """Print the bearer token of the scalers' API, or of an agent's, for Prometheus. It is a secret."""
    from sipmediadeploy.cli.token import token as run

    run(_place(stack), replica)


@app.command()
def version(
    images: Annotated[bool, typer.Option("--images", help="Of the images that this checkout makes.")] = False,
) -> None:
    """Print the version."""
    from sipmediadeploy import package_version

    if images:
        from sipmediadeploy.images.inputs import images_version, project_root

        print(images_version(project_root()))
        return
    print(package_version())


def main() -> None:
    """Run the command line. A user's mistake is a clear message and exit code 2, never a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        print("smd: interrupted", file=sys.stderr)
        _leave(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left (`smd logs | head`); nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as e:
        if not is_user_error(e):
            raise
        for line in str(e).splitlines():
            print(f"smd: {line}", file=sys.stderr)
        sys.exit(USER_ERROR)


def _leave(code: int) -> None:
    """Exit without waiting for worker threads: a request to the engine may take long to end by itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
