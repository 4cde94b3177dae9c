"""The lab's command: ``tests/lab/openstack/lab up|down|status|exec|instance|debian|roles|packages|image``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from tests.harness.openstack.settings import DIRECTORY, NAME, NETWORK, Lab, LabError, read_settings
from tests.lab.openstack import host, images, instances, lifecycle
from tests.lab.openstack.inside.config import PORTS
from tests.lab.openstack.inside.units import ENVIRONMENT
from tests.lab.openstack.package_proxy import package_proxy

_EPILOG = f"""
Environment: {DIRECTORY} (where it keeps all it has; default artifacts/lab/openstack), {NETWORK} (its public
network, a /24), {NAME} (its interface and control group on this host).
"""


def main() -> None:
    """Run one command; the exit code says whether it succeeded."""
    arguments = _parser().parse_args()
    # An end by signal cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        sys.exit(_run(read_settings(os.environ), arguments))
    except LabError as e:
        sys.exit(f"lab: {e}")
    except OSError as e:
        sys.exit(f"lab: {e}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/lab/openstack/lab", description="A real OpenStack on this machine.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the lab up")
    up.add_argument("--fresh", action="store_true", help="with a new, empty cloud; packages are kept")
    down = commands.add_parser("down", help="end the lab; the next up has its instances again")
    down.add_argument("--wipe", action="store_true", help="and remove all that it kept")
    commands.add_parser("status", help="what runs, and since when")
    commands.add_parser("pid", help="the lab's first process: its namespaces are the lab's")
    inside = commands.add_parser("exec", help="run a command in the lab, as the cloud's admin")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    instance = commands.add_parser("instance", help="run a command in an instance")
    instance.add_argument("instance", help="its name or UUID")
    instance.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    debian = commands.add_parser("debian", help="make the image of a Debian 12 server, and upload it")
    debian.add_argument("--name", default="debian-12", help="the image's name (default: debian-12)")
    debian.add_argument("packages", nargs="*", metavar="PACKAGE", help="packages that it has besides")
    roles = commands.add_parser("roles", help="make the images of the project's roles, and upload them")
    roles.add_argument("roles", nargs="*", metavar="ROLE", help="those only")
    commands.add_parser("packages", help="let instances reach Debian's packages by a proxy, until Ctrl-C")
    image = commands.add_parser("image", help="upload an image made of a root file system")
    image.add_argument("name")
    image.add_argument("source", type=Path, help="a directory or a tar file")
    return parser


def _run(lab: Lab, arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "up":
            lifecycle.up(lab, _say, fresh=arguments.fresh)
            print(_how_to_use(lab))
        case "down":
            lifecycle.down(lab, _say, wipe=arguments.wipe)
        case "status":
            return _status(lab)
        case "pid":
            print(host.running(lab))
        case "exec":
            _become(host.enter_command(host.running(lab), arguments.words or ["bash"]))
        case "instance":
            pid = host.running(lab)
            leader = instances.find_instance(lab, pid, arguments.instance)
            _become(host.enter_command(leader, arguments.words or ["sh"]))
        case "debian":
            images.ensure_debian(lab, _say, arguments.packages, arguments.name)
        case "roles":
            # It needs the whole project, which the other commands do without.
            from tests.lab.openstack.role_images import ensure_role_images, parse_roles

            version = ensure_role_images(lab, _say, parse_roles(arguments.roles))
            print(f"role images of version {version} are in the cloud")
        case "packages":
            with package_proxy(lab) as url:
                _say(f"packages are reached by {url}: smd deploy --packer-apt-proxy {url}; Ctrl-C ends it")
                signal.pause()
        case "image":
            images.upload_root(lab, _say, arguments.source, arguments.name)
    return 0


def _become(command: list[str]) -> None:
    environment = {**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(command[0], command, environment)


def _status(lab: Lab) -> int:
    pid = host.process_one(lab)
    if pid is None:
        print("the lab is down" + ("; its cloud comes back with the next up" if lab.state.exists() else ""))
        return 1
    lines = lifecycle.read_progress(lab.state / "progress")
    latest = {line["unit"]: line for line in lines if line["unit"]}
    for name, line in latest.items():
        print(f"{line['at']:8.1f} s  {name} {line['event']}")
    is_up = lifecycle.is_up(lab)
    count = len(host.processes(lab))
    print(f"{'up' if is_up else 'not up yet'}; {count} processes, {host.memory(lab)} of memory")
    return 0 if is_up else 1


def _how_to_use(lab: Lab) -> str:
    return f"""
  API             http://{lab.api_address}:{PORTS["identity"]}/v3
  credentials     {lab.clouds}: cloud "lab" (a tenant), "lab-admin"
  for a shell     . {lab.openrc}
  floating IPs    {lab.network[10]} to {lab.network[200]} of network "public"; this host is {lab.host_address}
  its own client  tests/lab/openstack/lab exec openstack server list --all-projects
  end             tests/lab/openstack/lab down [--wipe]
"""


_STARTED = time.monotonic()


def _say(text: str) -> None:
    print(f"lab: [{time.monotonic() - _STARTED:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
