"""Finds an instance's processes on this host."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.harness.openstack.settings import Lab, LabError
from tests.lab.openstack import host

_NOVA = "{http://openstack.org/xmlns/libvirt/nova/1.1}"


def find_instance(lab: Lab, pid: int, name: str) -> int:
    """The first process of the instance with that name or UUID, by its number on this host.

    Raises:
        LabError: there is none, or several.
    """
    found: list[str] = []
    known: list[str] = []
    for path in sorted(Path(f"/proc/{pid}/root/run/libvirt/lxc").glob("*.xml")):
        domain = ElementTree.parse(path).getroot()
        uuid = domain.findtext("domain/uuid", "")
        title = domain.findtext(f"domain/metadata/{_NOVA}instance/{_NOVA}name", "")
        known.append(f"{title} ({uuid})")
        if name in {uuid, title}:
            found.append(domain.findtext("domain/name", ""))
    if len(found) != 1:
        problem = "is the name of several" if found else "is not there"
        raise LabError(f"instance {name} {problem}; running here: {', '.join(known) or 'none'}")
    leader = _leader(lab, found[0])
    if leader is None:
        raise LabError(f"instance {name} is just starting or ending: try again")
    return leader


def _leader(lab: Lab, domain: str) -> int | None:
    """The first process of libvirt's domain: process 1 of a namespace, whose parent has the domain's name."""
    for pid in host.processes(lab):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            numbers = host.namespace_pids(status)
            parent = re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)
            if len(numbers) == host.depth() + 2 and numbers[-1] == "1" and parent:
                words = Path(f"/proc/{parent[1]}/cmdline").read_bytes().split(b"\0")
                if domain.encode() in words:
                    return pid
    return None
