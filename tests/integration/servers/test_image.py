"""A host that is made into an image: nothing of itself is left, and with a document it is a replica."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import docker
import pytest

from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Role, parse_stack
from tests.harness.playbook import ANSIBLE, SSH, make_key, play_words, program
from tests.harness.waiting import until
from tests.integration.servers.conftest import make_network
from tests.integration.servers.host import Host, NoHost, ensure_image, start_host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]
_MASTER = "m" * 43


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host after the playbook, of role scaler."""
    directory = tmp_path_factory.mktemp("image")
    name = f"smd-image-{secrets.token_hex(2)}"
    key = make_key(directory)
    prefix = make_network(engine, name)
    try:
        made = ensure_image(engine)
        host = start_host(engine, made, name, name, f"{prefix}.48", key.with_suffix(".pub").read_text())
        words = ["-i", f"{host.address},", "-u", "debian", f"--private-key={key}", f"--ssh-common-args={SSH}"]
        words += ["-e", "smd_role=scaler", "-e", f"common_smd={program('smd')}"]
        words += ["-e", f"common_application={directory / 'application'}", "image.yml"]
        play_words(*words)
        yield host
    except NoHost as e:
        pytest.skip(str(e))
    finally:
        for container in engine.containers.list(all=True, filters={"name": name}):
            container.remove(force=True, v=True)
        engine.networks.get(name).remove()


def test_nothing_of_the_build_machine_is_left(image: Host) -> None:
    left = (
        "ls /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /etc/smd/replica.yaml"
        " /var/lib/systemd/random-seed 2>/dev/null; cat /etc/machine-id;"
        " find /var/lib/apt/lists /var/cache/apt -type f -size +0 ! -name lock; true"
    )
    assert image.run(left).split() == []
    assert image.run(f"grep -rIl {ANSIBLE.parents[1]}/ /opt/smd /etc/smd || true") == ""


async def test_a_scaler_runs_as_a_user_once_its_document_is_there(image: Host) -> None:
    stack = parse_stack("name: demo\ndomain: sip.test\n")
    subnet = IPv4Network(f"{image.address.rsplit('.', 1)[0]}.0/24")
    document = make_document(stack, subnet, Secrets(master=_MASTER), "v1", Role.SCALER, 0, "demo-scaler-0")
    assert document.address == IPv4Address(image.address)
    image.restart()
    await until("the machine is up", lambda: "running" in _state(image) or "degraded" in _state(image), 120)
    assert image.run("systemctl is-active smd-agent.service", check=False).strip() == "inactive"

    began = time.monotonic()
    image.write("/etc/smd/replica.yaml", document.to_yaml(), 0o600)
    await until(
        "the scaler has made a step", lambda: "leading" in image.run("cat /run/smd/scaler.alive", check=False)
    )
    print(f"\nfrom its document to the scaler's first step: {time.monotonic() - began:.1f} s")
    pid = image.run("systemctl show -P MainPID smd-scaler.service").strip()
    assert image.run(f"ps -o user= -p {pid}").strip() == "smd"
    assert "Permission denied" in image.run("cat /etc/smd/replica.yaml", user="smd", check=False)
    # There is no engine here that it could ask; that is what it says, and all that is wrong with it.
    said = image.run("smd node --status --wait 20", check=False)
    assert "demo-scaler-0" in said
    assert _MASTER not in image.run("journalctl --no-pager -o cat")


def _state(host: Host) -> str:
    return host.run("systemctl is-system-running", check=False)
