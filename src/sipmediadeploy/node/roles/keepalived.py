"""Keepalived for roles that have a service address: its configuration, and the number that its election uses.

The agent writes one number into a file that keepalived watches (``track_file``: scripts would need privileges
that the replica does not have). It is added to the replica's base priority, and at -254 keepalived gives the
address up at once, with an advertisement of priority 0 that makes the others take over within 0.2 s.
"""

from __future__ import annotations

from pathlib import Path

from sipmediadeploy.node.roles.base import RUN, RenderedFile, render_template
from sipmediadeploy.protocol.replica import ReplicaDocument

SERVICE = "keepalived"
ADVERT_S, MISSED = 0.02, 20
"""A standby takes over when it has missed so many adverts: after 0.4 s. Where 40 % of all adverts are lost,
so many in a row are missed once in weeks."""
DIRECTORY = RUN / "keepalived"
HEALTH_FILE = DIRECTORY / "health"

RELEASE = -254
"""Give the address up now."""
SICK = -120
DRAINING = -60
HOLDER = 40
"""Whoever holds the address is preferred, so that a replica that comes (back) takes nothing away."""
RELEASE_S = 1.0
"""How long a replica that turned sick stays out altogether; a healthy one takes over meanwhile. After that
it may hold the address again, in case no other does: sick everywhere is then no worse than sick once."""


def render(document: ReplicaDocument, interface: str) -> dict[Path, RenderedFile]:
    """Keepalived's files; none for a replica without a service address. Pure."""
    if document.vrrp is None:
        return {}
    content = render_template(
        "sipmediadeploy.node.roles",
        "keepalived.conf.j2",
        vrrp=document.vrrp,
        name=document.name,
        address=document.address,
        interface=interface,
        health_file=HEALTH_FILE,
        advert_s=ADVERT_S,
        missed=MISSED,
    )
    return {
        DIRECTORY / "keepalived.conf": RenderedFile(content),
        DIRECTORY / "interface": RenderedFile(f"{interface}\n"),
    }


ISOLATED_S = 60.0
"""How long one that hears nobody stays out: it would not hear that another one holds the address."""


def election_value(
    healthy: bool, sick_for_s: float, draining: bool, holder: bool, isolated: bool = False
) -> int:
    """What the agent adds to the replica's priority.

    Healthy beats draining beats sick, whatever the base priorities (which lie within 1 to 60 of each other);
    among equals the holder stays. ``sick_for_s`` counts from when the health check failed.
    """
    if not healthy:
        return RELEASE if sick_for_s < (ISOLATED_S if isolated else RELEASE_S) else SICK
    return (DRAINING if draining else 0) + (HOLDER if holder and not draining else 0)
