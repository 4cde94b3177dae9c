"""What is in the images of the roles as the cloud keeps them: nothing of where they were built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sipmediadeploy.images.inputs import ROLES
from tests.harness.openstack.cloud_stack import CloudStack
from tests.lab.openstack.package_proxy import PORT

pytestmark = pytest.mark.e2e
# Each line that it prints is something that should not be there. Words to look for come on standard input: no
# process list has them. /tmp is in memory.
_LOOK = r"""
set -u
cat >/tmp/words
cd "$1"
ls -d etc/ssh/ssh_host_* etc/smd/replica.yaml var/lib/systemd/random-seed etc/apt/apt.conf.d/90smd-build \
    root/.ssh/authorized_keys home/*/.ssh/authorized_keys var/lib/cloud/instance 2>/dev/null
[ ! -s etc/machine-id ] || echo "machine id $(cat etc/machine-id)"
find var/lib/apt/lists var/cache/apt -type f -size +0 ! -name lock
grep -rlE '(file|copy|cdrom):/|127\.0\.0\.1|localhost|Proxy' etc/apt
find home root -name '.*_history' -o -name known_hosts
find var/log -name '*.log' -size +0 -o -name '*.journal'
find var/log/journal -mindepth 1 2>/dev/null
find etc opt root home usr/local var -xdev -type f -print0 | xargs -0 -r grep -lF -f /tmp/words
find etc opt root home -xdev -type f -name '*.pem' -print0 | xargs -0 -r grep -l 'PRIVATE KEY'
exit 0
"""


def test_an_image_has_nothing_of_its_building(stack: CloudStack) -> None:
    master = (stack.stack_file.parent / "secrets.yaml").read_text().split("master:")[1].split()[0]
    proxy = f"{stack.lab.host_address}:{PORT}"
    found = stack.images()
    assert {name.split()[0] for name in found} >= {str(role) for role in ROLES}
    left = {name: left for name, file in found.items() if (left := _look(file, [master, proxy]))}
    assert left == {}


def test_the_look_finds_what_is_there(stack: CloudStack) -> None:
    """It would find a word that every image has."""
    name, file = next(iter(stack.images().items()))
    assert "etc/passwd" in _look(file, ["root:x:0:0"]), name


def _look(image: Path, words: list[str]) -> list[str]:
    """What an image has of all that it should not have, or of ``words``. It is mounted for that alone."""
    script = 'set -eu; mount -t tmpfs none /tmp; mount -o ro,loop,noload "$1" /mnt; exec sh -c "$2" look /mnt'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(image), _LOOK],
        input="\n".join(words),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{image}: {done.stderr}"
    return done.stdout.split("\n")[:-1]
