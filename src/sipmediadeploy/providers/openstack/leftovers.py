"""Finds and removes what belongs to a stack: a replica with all that is its own, and what was left
half-made.

Everything is found by its marks (``marks``), in the cloud alone: nothing is remembered.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.providers.openstack.cloud import Body, Cloud
from sipmediadeploy.providers.openstack.errors import Missing, Unavailable
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.service_addresses import PUBLIC_ROLES, ROLES
from sipmediadeploy.stack import Role

SWEEP_S = 60.0
ORPHAN_S = 300.0
"""What has no server after so long belongs to a creation that nobody finishes."""
IN_THE_WAY_S = 30.0
"""The same, for a port that has the address of a replica that is being made: a creation makes its server
right after it.
"""
_GONE_S = 45.0
_LOOK_S = 0.5
_GROUPS_PAGE = 200

Report = Callable[[str], None]


def servers(cloud: Cloud, stack: str) -> Iterator[Body]:
    """The stack's servers, whatever state they are in."""
    query = {"tags": marks.server_tag(stack)}
    for server in cloud.all(f"servers of stack {stack}", "compute", "/servers/detail", "servers", query):
        if (server.get("metadata") or {}).get(marks.STACK) == stack:
            yield server


def server_groups(cloud: Cloud, stack: str) -> Iterator[Body]:
    """The stack's server groups, known by name: they carry no marks."""
    names = {marks.pool_name(stack, role) for role in Role}
    offset = 0
    while True:
        query = {"limit": _GROUPS_PAGE, "offset": offset}
        page = cloud.get("server groups", "compute", "/os-server-groups", query)["server_groups"]
        for group in page:
            name = str(group["name"])
            base, _, number = name.rpartition("-")
            if name in names or (base in names and number.isdigit()):
                yield group
        if len(page) < _GROUPS_PAGE:
            return
        offset += _GROUPS_PAGE


def remove_server(cloud: Cloud, stack: str, id_: str) -> None:
    """Remove a server of the stack, then its floating IPs and ports.

    Raises:
        ProviderError: it is not of the stack, or could not be removed.
    """
    what = f"deleting server {id_}"
    try:
        server = cloud.get(what, "compute", f"/servers/{id_}")["server"]
    except Missing:
        server = None
    if server is not None and (server.get("metadata") or {}).get(marks.STACK) != stack:
        raise ProviderError(f"server {id_} is not of stack {stack}: left alone")
    ports = _ports(cloud, stack, device_id=id_)
    if server is not None:
        with contextlib.suppress(Missing):
            cloud.delete(what, "compute", f"/servers/{id_}")
        _wait_until_gone(cloud, what, id_)
        # Nova lets go of the ports of a server whose building failed: they are known by name then.
        ports += _loose_ports(cloud, stack, str(server["metadata"].get(marks.NAME, "")))
    _remove_ports(cloud, stack, ports)


def undo(cloud: Cloud, stack: str, name: str, created: str) -> bool:
    """Remove all of a creation that failed; ``created`` tells its server from others of its name.

    Never raises; whether it could be done. If not, something may be left (:func:`remove_half`). A port
    stays when it is not known whether there is a server: Nova is slow to say to whom a port belongs.
    """
    with contextlib.suppress(ProviderError):
        for server in servers(cloud, stack):
            marked = server["metadata"]
            if (marked.get(marks.NAME), marked.get(marks.CREATED)) == (name, created):
                remove_server(cloud, stack, str(server["id"]))
        _remove_ports(cloud, stack, _loose_ports(cloud, stack, name))
        return True
    return False


def remove_half(cloud: Cloud, stack: str, name: str) -> None:
    """Remove the ports of a creation that failed a while ago; with a server it is a replica like others.

    Raises:
        ProviderError: they could not be removed.
    """
    if all(server["metadata"].get(marks.NAME) != name for server in servers(cloud, stack)):
        _remove_ports(cloud, stack, _loose_ports(cloud, stack, name))


def sweep(cloud: Cloud, stack: str, making: frozenset[str], now: float) -> int:
    """Remove ports that have no server and floating IPs that are mapped to nothing, when they are old.

    Those of the replicas that are being ``making`` stay. Returns how many were removed.
    """
    ports = [p for p in _ports(cloud, stack) if _age(p, now) >= ORPHAN_S and _replica(p) not in making]
    attached = [port for port in ports if port.get("device_id")]
    known = {str(server["id"]) for server in servers(cloud, stack)} if attached else set()
    orphans = [port for port in ports if str(port.get("device_id") or "") not in known]
    removed = _remove_ports(cloud, stack, orphans)
    for ip in _floating_ips(cloud, stack):
        if ip["port_id"] is None and _age(ip, now) >= ORPHAN_S:
            removed += _remove(cloud, "/floatingips", str(ip["id"]))
    return removed


def release(cloud: Cloud, stack: str, port: Body | None, making: frozenset[str]) -> bool:
    """Remove a port of the stack that has the address of a new replica and no server; whether it is
    worth another try.
    """
    if port is None:
        return True
    ours = port.get("description") == marks.replica_mark(stack)
    if (
        not ours
        or port.get("device_id")
        or _replica(port) in making
        or _age(port, time.time()) < IN_THE_WAY_S
    ):
        return False
    return _remove_ports(cloud, stack, [port]) > 0


def remove_stack(cloud: Cloud, stack: str, report: Report = lambda _line: None) -> int:
    """Remove all that was made of the stack: servers (scalers first), ports, floating IPs, groups, the
    lease.

    Networks and security groups are not the scaler's, and stay. Blocking; repeatable.

    Returns:
        How many things were removed.

    Raises:
        ProviderError: something could not be removed.
    """
    removed = 0
    found = sorted(servers(cloud, stack), key=lambda s: s["metadata"].get(marks.ROLE) != str(Role.SCALER))
    for server in found:  # all are on their way before the first one is waited for
        with contextlib.suppress(Missing):
            cloud.delete(f"deleting {server['name']}", "compute", f"/servers/{server['id']}")
    for server in found:
        remove_server(cloud, stack, str(server["id"]))
        report(f"removed {server['name']}")
        removed += 1
    for ip in _floating_ips(cloud, stack, *PUBLIC_ROLES):
        removed += _remove(cloud, "/floatingips", str(ip["id"]))
        report(f"removed floating IP {ip['floating_ip_address']}")
    ports = _ports(cloud, stack) + [p for role in ROLES for p in _service_ports(cloud, stack, role)]
    removed += _remove_ports(cloud, stack, ports)
    for port in _lease_ports(cloud, stack):
        removed += _remove(cloud, "/ports", str(port["id"]))
    for group in list(server_groups(cloud, stack)):
        cloud.delete(f"deleting server group {group['name']}", "compute", f"/os-server-groups/{group['id']}")
        removed += 1
    return removed


def _ports(cloud: Cloud, stack: str, **query: str) -> list[Body]:
    mark = {"description": marks.replica_mark(stack), **query}
    return list(cloud.all(f"ports of stack {stack}", "network", "/ports", "ports", mark))


def _loose_ports(cloud: Cloud, stack: str, replica: str) -> list[Body]:
    mine = [port for name in (replica, f"{replica}-public") for port in _ports(cloud, stack, name=name)]
    return [port for port in mine if not port.get("device_id")]


def _service_ports(cloud: Cloud, stack: str, role: Role) -> list[Body]:
    query = {"description": marks.service_mark(stack, role)}
    return list(cloud.all(f"service address of {role}", "network", "/ports", "ports", query))


def _lease_ports(cloud: Cloud, stack: str) -> list[Body]:
    query = {"name": network_name(stack), "project_id": cloud.project}
    found = list(cloud.all(f"lease of stack {stack}", "network", "/ports", "ports", query))
    return [port for port in found if port["description"].startswith(f"smd lease stack={stack} ")]


def _floating_ips(cloud: Cloud, stack: str, *roles: Role) -> list[Body]:
    of = [marks.replica_mark(stack), *(marks.service_mark(stack, role) for role in roles)]
    what = f"floating IPs of stack {stack}"
    return list(cloud.all(what, "network", "/floatingips", "floatingips", {"description": of}))


def _remove_ports(cloud: Cloud, stack: str, ports: list[Body]) -> int:
    """Remove ports, and first the replicas' own floating IPs on them."""
    ids = {str(port["id"]) for port in ports}
    removed = 0
    for ip in _floating_ips(cloud, stack) if ids else ():
        if ip["port_id"] in ids:
            removed += _remove(cloud, "/floatingips", str(ip["id"]))
    return removed + sum(_remove(cloud, "/ports", id_) for id_ in sorted(ids))


def _remove(cloud: Cloud, path: str, id_: str) -> int:
    try:
        cloud.delete(f"deleting {path.strip('/').rstrip('s')} {id_}", "network", f"{path}/{id_}")
    except Missing:
        return 0
    return 1


def _wait_until_gone(cloud: Cloud, what: str, id_: str) -> None:
    until = time.monotonic() + _GONE_S
    while time.monotonic() < until:
        try:
            server = cloud.get(what, "compute", f"/servers/{id_}")["server"]
        except Missing:
            return
        except Unavailable:
            server = {}
        if str(server.get("status", "")).upper() in ("DELETED", "SOFT_DELETED"):
            return
        time.sleep(_LOOK_S)
    raise Unavailable(f"{what}: it is not gone after {_GONE_S:.0f} s", again="it is tried again")


def _replica(port: Body) -> str:
    return str(port.get("name", "")).removesuffix("-public")


def _age(thing: Body, now: float) -> float:
    """Seconds since it was made, by this machine's clock; a cloud that does not say so has no leftovers."""
    try:
        made = datetime.fromisoformat(str(thing["created_at"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return 0.0
    return now - made.timestamp()
