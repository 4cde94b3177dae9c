"""Makes a stack on the lab, and leaves nothing of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sipmediadeploy.images.build import ensure_images, ensure_test_image
from sipmediadeploy.images.inputs import ROLES
from sipmediadeploy.providers.docker.engine import ensure_engine
from sipmediadeploy.stack import Role
from tests.harness import terraform
from tests.harness.openstack.cloud_stack import CloudStack, connect_as
from tests.harness.openstack.settings import Lab
from tests.harness.running import ROOT
from tests.lab.openstack import images
from tests.lab.openstack.role_images import ensure_role_images

_STACK = """\
name: {name}
domain: sip.example.org
provider: openstack
openstack:
  cloud: lab
  api_from: [{network}]
  service_addresses: {service_addresses}
sip: {{trusted: [{network}]}}
media: {{rtp_timeout_s: 300}}
pools:
  gateway: {{min: 2, max: 3, calls: 8}}
"""


_BUILD_PROGRAMS = ("packer", "ssh", "tinyproxy")
PACKED = (Role.KAMAILIO, Role.CONFERENCE_DEMO) if all(map(shutil.which, _BUILD_PROGRAMS)) else ()
"""The roles whose images Packer builds on the lab, in the tests; the others' are exported from Docker. None
where a program is missing for that: Ubuntu 24.04 has no package of Packer.
"""


def reach(lab: Lab, report: Callable[[str], None], roles: Sequence[Role] = ROLES) -> None:
    """Let this process and the commands that it runs reach the lab, as its ``openrc`` does.

    It has the images of this checkout's ``roles`` then, and a Debian to build others from.

    Raises:
        LabError: it is not up, or an image can't be made.
    """
    direct = f"{lab.network},{lab.api_address}"
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(lab.clouds)
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [direct, os.environ.get(name)]))
    ensure_engine(report)
    ensure_role_images(lab, report, roles)
    images.ensure_debian(lab, report)


@contextlib.contextmanager
def make_stack(
    lab: Lab,
    name: str,
    report: Callable[[str], None],
    service_addresses: str = "vrrp",
    *,
    by_terraform: bool = False,
) -> Iterator[CloudStack]:
    """A stack of which there is only the file; what was made of it is removed at the end, unless the variable
    ``SMD_LAB_KEEP`` is ``yes``. With ``by_terraform`` what it stands on is to be made by Terraform.

    Raises:
        AssertionError: something of that name is there and can't be removed.
    """
    engine = ensure_engine(report)
    ensure_images(engine, report)  # test calls are made by the gateway's
    stack_file = ROOT / "artifacts" / "openstack" / name / "stack.yaml"
    stack_file.parent.mkdir(parents=True, exist_ok=True)
    stack_file.write_text(_STACK.format(name=name, network=lab.network, service_addresses=service_addresses))
    test_image = ensure_test_image(engine, report)
    example = _terraform_example(stack_file) if by_terraform else None
    cloud, admin = connect_as("lab"), connect_as("lab-admin")
    stack = CloudStack(name, stack_file, test_image, lab, cloud, admin, example)
    stack.smd("init")  # secrets; the stack file is there
    stack.smd("down", "--foundation")
    assert stack.left() == []
    try:
        yield stack
    finally:
        if os.environ.get("SMD_LAB_KEEP") != "yes":
            stack.remove()


def _terraform_example(stack_file: Path) -> Path:
    """The example in a new directory, where both Terraform and ``smd deploy`` find what they need."""
    directory = stack_file.parent / "terraform"
    shutil.rmtree(directory, ignore_errors=True)
    told = {"TF_VAR_stack_file": str(stack_file), "TF_VAR_smd": str(ROOT / "smd")}
    os.environ.update(terraform.prepare(directory) | told)
    return directory / "example"
