"""The playbook for hosts that are there, as an operator runs it: five plain Debian servers, an inventory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ANSIBLE = Path(__file__).resolve().parents[2] / "deploy" / "ansible"
KAMAILIO, STANDBY, COTURN, GATEWAY, CONFERENCE = (
    *("kamailio-0", "kamailio-1", "coturn-0", "gateway-0"),
    "conference-0",
)
LAST_BYTES = {KAMAILIO: 16, STANDBY: 17, COTURN: 32, GATEWAY: 64, CONFERENCE: 9}
"""The hosts, and the last bytes of their addresses."""
SERVICE_BYTES = {"kamailio": 2, "coturn": 3}
"""The last bytes of the service addresses."""
GROUPS = {
    "kamailio": [KAMAILIO, STANDBY],
    "coturn": [COTURN],
    "gateway": [GATEWAY],
    "conference_demo": [CONFERENCE],
}
SSH = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
_LIMIT_S = 2400


@dataclass(frozen=True, slots=True)
class Played:
    """What one run of the playbook did."""

    output: str

    def counted(self, what: str) -> dict[str, int]:
        """By host: how often its recap says that ``what`` ('changed', 'failed') happened."""
        lines = self.output.split("PLAY RECAP", 1)[1].splitlines()[1:]
        found = (re.match(rf"(\S+)\s*:.*\b{what}=(\d+)", line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}


def play(directory: Path, playbook: str = "site.yml") -> Played:
    """Run a playbook on all hosts of the directory's inventory.

    Raises:
        AssertionError: it failed.
    """
    return play_words("-i", str(directory / "inventory.yml"), playbook)


def play_words(*words: str) -> Played:
    """Run ``ansible-playbook`` with these words.

    Raises:
        AssertionError: it failed.
    """
    done = subprocess.run(
        [program("ansible-playbook"), *words],
        cwd=ANSIBLE,
        env={**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return Played(done.stdout)


def write_stack(directory: Path) -> Path:
    """A stack file and secrets, as ``smd init`` makes them; the operator's SSH key."""
    subprocess.run([program("smd"), "init", "--name", "fixed"], cwd=directory, check=True)
    return make_key(directory)


def write_inventory(
    directory: Path, prefix: str, hosts: Mapping[str, Mapping[str, str]], **variables: object
) -> None:
    """Write the inventory of ``hosts``, with each one's own variables, on the network ``prefix``.0/24."""
    given = {
        "ansible_user": "debian",
        "ansible_ssh_private_key_file": str(directory / "key"),
        "ansible_ssh_common_args": SSH,
        "common_smd": program("smd"),
        "common_stack_file": str(directory / "stack.yaml"),
        "common_application": str(directory / "application"),
        # Beside benchmarks and other tests everything takes long.
        "common_ready_s": 240,
        "smd_network": f"{prefix}.0/24",
        "smd_service_addresses": {pool: f"{prefix}.{last}" for pool, last in SERVICE_BYTES.items()},
    }
    children = {
        group: {"hosts": {name: dict(hosts[name]) for name in names}} for group, names in GROUPS.items()
    }
    inventory = {"all": {"vars": given | variables, "children": children}}
    (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))


def make_key(directory: Path) -> Path:
    """An operator's SSH key; beside it is the public one."""
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def program(name: str) -> str:
    """A program of the development environment."""
    return str(Path(sys.executable).with_name(name))
