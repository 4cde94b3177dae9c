"""The images have what their role needs and nothing of the machine that built them."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from sipmediadeploy.images.build import Builder, docker_build, ensure_images
from sipmediadeploy.images.host import read_host
from sipmediadeploy.images.inputs import ROLES, ImageError, context_tar, project_root
from sipmediadeploy.providers.docker.labels import image_name
from sipmediadeploy.stack import Role
from tests.integration.docker.conftest import engine, version

pytestmark = pytest.mark.integration
__all__ = ["engine", "version"]

LEFTOVERS = """
ls -d /build /root/.ansible /root/.cache /etc/apt/apt.conf.d/95host 2>/dev/null
find /var/lib/apt/lists /var/cache/apt /var/log /tmp -type f
dpkg-query -W -f '${Package}\\n' python3-apt 2>/dev/null
find / -xdev -path /proc -prune -o -name '*ansible*' -print
cat /etc/machine-id /etc/apt/sources.list.d/* /etc/apt/sources.list 2>/dev/null
true
"""


def run(engine: docker.DockerClient, image: str, script: str) -> str:
    return engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode="none").decode()


@pytest.mark.parametrize("role", ROLES)
def test_nothing_of_the_build_machine_is_in_the_image(
    engine: docker.DockerClient, version: str, role: Role
) -> None:
    image = image_name(role, version)
    left = run(engine, image, LEFTOVERS).splitlines()
    sources = set(read_host().sources.splitlines())
    assert [line for line in left if not line.startswith("deb ") or line in sources] == []
    # Two layers, neither of which is a build step's: what was removed is not hidden in a lower one.
    layers = engine.images.get(image).attrs["RootFS"]["Layers"]
    assert len(layers) == 2
    assert str(project_root()) not in run(engine, image, f"grep -rIl {project_root()}/ /opt /etc || true")


@pytest.mark.parametrize("role", ROLES)
def test_the_application_starts_in_the_image(engine: docker.DockerClient, version: str, role: Role) -> None:
    program = (
        "import sipmediadeploy.protocol.replica, aiohttp, importlib.metadata as m; "
        "print(*sorted(m.entry_points(group='sipmediadeploy.providers').names))"
    )
    there = "test -x /usr/sbin/smd-init && test -x /usr/bin/smd"
    script = f'{there} && PYTHONPATH=/opt/smd/site-packages python3 -c "{program}"'
    assert run(engine, image_name(role, version), script).split() == ["docker", "openstack"]


@pytest.mark.parametrize(
    ("role", "programs"),
    [
        (Role.KAMAILIO, "kamailio keepalived s6-svscan"),
        (Role.COTURN, "turnserver keepalived s6-svscan"),
        (Role.SCALER, "nft iptables conntrack s6-svscan"),
        (Role.CONFERENCE_DEMO, "janus nginx s6-svscan"),
    ],
)
def test_the_roles_programs_are_there_with_their_libraries(
    engine: docker.DockerClient, version: str, role: Role, programs: str
) -> None:
    found = "ldd $(command -v $p || echo $p) 2>&1 | grep 'not found\\|No such'"
    script = f"for p in {programs}; do {found}; done; true"
    assert run(engine, image_name(role, version), script) == ""


def test_a_gateway_has_every_element_that_calls_are_made_of(
    engine: docker.DockerClient, version: str
) -> None:
    names = (
        "webrtcbin nicesrc dtlsdec srtpenc rtpbin rtph264pay rtph264depay h264parse rtpopuspay opusenc "
        "opusdec alawenc mulawenc audiomixer "
        "rtppcmapay rtppcmudepay vp8dec openh264enc openh264dec"
    )
    script = (
        "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None); "
        f"print([n for n in '{names}'.split() if Gst.ElementFactory.make(n) is None])"
    )
    found = run(engine, image_name(Role.GATEWAY, version), f'python3 -c "{script}" 2>/dev/null')
    assert found == "[]\n"


def test_images_that_are_there_are_not_built_again(engine: docker.DockerClient, version: str) -> None:
    lines: list[str] = []
    again = ensure_images(engine, lines.append)
    lines.clear()
    assert ensure_images(engine, lines.append) == again
    assert lines == []


def test_a_build_that_fails_shows_the_end_of_its_log(engine: docker.DockerClient, tmp_path: Path) -> None:
    recipe = tmp_path / "Dockerfile"
    recipe.write_text("FROM scratch\nCOPY nothing /\n")
    builder = Builder(engine, tmp_path, tmp_path, lambda line: None)
    with pytest.raises(ImageError, match=r"(?s)image trial: .*nothing.*trial\.log.*COPY nothing"):
        docker_build(builder, "trial", "smd/trial:t4", context_tar({"Dockerfile": recipe}), {})
