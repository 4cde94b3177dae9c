"""The lab while something is done with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.harness.openstack.settings import Lab, read_settings
from tests.lab.openstack import host, lifecycle
from tests.lab.openstack.tenants import say


@contextlib.contextmanager
def running_lab() -> Iterator[Lab]:
    """The lab, up. It is left as it was found: up or down."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = read_settings(os.environ)
    was_up = host.process_one(lab) is not None
    lifecycle.up(lab, say)
    try:
        yield lab
    finally:
        if was_up:
            lifecycle.up(lab, say)
        else:
            lifecycle.down(lab, say)
