"""A throw-away stack on a real OpenStack: the cloud ``SMD_LAB_CLOUD`` of ``OS_CLIENT_CONFIG_FILE``.

``SMD_LAB_ADMIN_CLOUD`` (``SMD_LAB_CLOUD`` with ``-admin``) is used where a tenant could not bring a
fault about.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from sipmediadeploy.protocol.replica import ReplicaDocument
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack.cloud import Body, Cloud, Service, read_credentials
from sipmediadeploy.providers.openstack.ensure import ensure_foundation, remove_foundation
from sipmediadeploy.providers.openstack.lease import REQUEST_TIMEOUT_S, OpenStackLeaseStore
from sipmediadeploy.providers.openstack.leftovers import remove_stack
from sipmediadeploy.providers.openstack.provider import OpenStackProvider, make_provider
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.scaler.main import limits_of
from sipmediadeploy.stack import Limits, Role, Stack, parse_stack
from tests.harness.api_faults.scalers import SUBNET, VERSION

IMAGE = os.environ.get("SMD_LAB_IMAGE", "busybox")
FLAVOR = os.environ.get("SMD_LAB_FLAVOR", "tiny")
PATIENCE = float(os.environ.get("SMD_LAB_PATIENCE", "1"))
"""Time limits, and the lease's times, are multiplied by it: for a lab whose machine is busy otherwise."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A stack with its foundation; its replicas are made by the test."""

    cloud: Cloud
    admin: Cloud | None
    credentials: dict[str, Any]
    stack: Stack

    def provider(self, **settings: object) -> OpenStackProvider:
        """A provider of the stack, with other settings than usual."""
        assert self.stack.openstack is not None
        changed = self.stack.model_copy(
            update={"openstack": self.stack.openstack.model_copy(update=settings)}
        )
        return make_provider(changed, VERSION, Secrets(master="m" * 43, cloud=self.credentials))

    def lease_store(self, patience: float = 20.0) -> OpenStackLeaseStore:
        """With a connection of its own; with ``patience`` what is proved does not depend on speed."""
        cloud = Cloud(lambda: self.credentials, REQUEST_TIMEOUT_S * patience)
        return OpenStackLeaseStore(self.stack.name, cloud, patience)

    def document(self, role: Role, slot: int, number: int | None = None) -> ReplicaDocument:
        """The document of a replica."""
        name = f"{self.stack.name}-{role}-{slot if number is None else number}"
        return make_document(self.stack, SUBNET, Secrets(master="m" * 43), VERSION, role, slot, name)

    def limits(self, role: Role) -> Limits:
        """Its limits."""
        return limits_of(self.stack, role)

    def all(self, service: Service, path: str, key: str, **query: object) -> list[Body]:
        """What is in the cloud."""
        return list(self.cloud.all("the test looks", service, path, key, query))

    def marked(self) -> list[str]:
        """What carries a mark of the stack: kind and name of each."""
        of = f"smd stack={self.stack.name} "
        found = [
            f"port {p['name']}"
            for p in self.all("network", "/ports", "ports")
            if p["description"].startswith(of)
        ]
        ips = self.all("network", "/floatingips", "floatingips")
        found += [
            f"floating IP of {ip['description'].removeprefix(of)}"
            for ip in ips
            if ip["description"].startswith(of)
        ]
        servers = self.all("compute", "/servers/detail", "servers")
        found += [f"server {s['name']}" for s in servers if s["metadata"].get("smd.stack") == self.stack.name]
        return sorted(found)

    def require_admin(self) -> Cloud:
        """The administrator's connection; skips the test where there is none."""
        if self.admin is None:
            pytest.skip("no administrator's cloud: set SMD_LAB_ADMIN_CLOUD")
        return self.admin


def _credentials(variable: str, default: str) -> dict[str, Any] | None:
    name = os.environ.get(variable, default)
    try:
        return read_credentials(name) if name else None
    except ProviderError:
        return None


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    name = os.environ.get("SMD_LAB_CLOUD", "")
    if not name or "OS_CLIENT_CONFIG_FILE" not in os.environ:
        pytest.skip("no OpenStack: set OS_CLIENT_CONFIG_FILE and SMD_LAB_CLOUD to a cloud for tests")
    credentials = read_credentials(name)
    admin = _credentials("SMD_LAB_ADMIN_CLOUD", f"{name}-admin")
    images, flavors = (", ".join(f"{role}: {one}" for role in Role) for one in (IMAGE, FLAVOR))
    stack = parse_stack(
        f"name: lab{secrets.token_hex(2)}\ndomain: sip.example.org\nprovider: openstack\nopenstack:\n"
        f"  images: {{{images}}}\n  flavors: {{{flavors}}}\n"
    )
    cloud = Cloud(lambda: credentials, timeout_s=60.0)
    there = Lab(cloud, Cloud(partial(dict, admin)) if admin else None, credentials, stack)
    try:
        ensure_foundation(cloud, stack, SUBNET)
        yield there
    finally:
        remove_stack(cloud, stack.name)
        remove_foundation(cloud, stack)
        assert there.marked() == []


@pytest.fixture
def clean(lab: Lab) -> Iterator[Lab]:
    """Nothing of the stack is there before the test, and after it."""
    remove_stack(lab.cloud, lab.stack.name)
    yield lab
    remove_stack(lab.cloud, lab.stack.name)
