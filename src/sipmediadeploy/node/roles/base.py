"""What a role is to the agent: files to render, services to run, a health check that does the job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import jinja2

from sipmediadeploy.protocol.agent import Gateways

RUN = Path("/run/smd")
"""Rendered configuration and sockets; on tmpfs."""


class RoleError(Exception):
    """A role can't do what was asked. The message says what, and what to do."""


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One rendered file."""

    content: str
    owner: str = "root"
    """The user that reads it; its directory is that user's too."""
    mode: int = 0o600
    live: bool = False
    """The running service is told of changes; it need not be restarted for one."""


@dataclass(frozen=True, slots=True)
class Health:
    """The outcome of one health check."""

    ok: bool
    reason: str
    """What is wrong, or what was seen, in an operator's words."""
    calls: int = 0
    capacity: int = 0
    retired: bool = False
    draining: bool | None = None
    """Whether the service itself knows that it drains; None: it need not know."""
    active: bool | None = None
    """Whether it is its pool's active one, where no service address says so: the scaler that leads."""


class Orders(Protocol):
    """What a role does beyond rendering when it is told to take no more work."""

    async def drain(self) -> None:
        """Take no new work.

        Raises:
            RoleError: the service did not take the order.
        """
        ...

    async def undrain(self) -> None:
        """Take new work again. Raises RoleError like :meth:`drain`."""
        ...

    async def retire(self) -> None:
        """Never take new work again. Raises RoleError like :meth:`drain`."""
        ...


class NodeRole(Orders, Protocol):
    """One role on one replica."""

    @property
    def services(self) -> tuple[str, ...]:
        """The supervisor's names of the role's services, in the order in which they are started."""
        ...

    @property
    def interval_s(self) -> float:
        """Between two health checks."""
        ...

    @property
    def patience_s(self) -> float:
        """Misses that last less long don't make the replica sick."""
        ...

    def render(self) -> dict[Path, RenderedFile]:
        """Every file that the services need. Pure.

        Raises:
            RoleError: the document asks for something impossible.
        """
        ...

    async def check(self) -> Health:
        """Have the service do its job once, within about half a second. Never raises."""
        ...

    async def metrics(self) -> bytes:
        """What the service itself counts, in Prometheus' text format; nothing when it can't be asked."""
        ...

    async def set_gateways(self, gateways: Gateways) -> None:
        """Use these gateways from now on. Only for kamailio.

        Raises:
            RoleError: wrong role, or the service did not take the list (it is kept and tried again).
        """
        ...

    async def close(self) -> None:
        """Close the connections to the service that were kept."""
        ...


class NoOrders:
    """For roles whose service needs no telling: the agent's own record is enough."""

    interval_s: float = 0.5
    patience_s: float = 2.0

    async def drain(self) -> None:
        """Nothing to tell the service."""

    async def undrain(self) -> None:
        """Nothing to tell the service."""

    async def retire(self) -> None:
        """Nothing to tell the service."""

    async def metrics(self) -> bytes:
        """Nothing is counted."""
        return b""

    async def close(self) -> None:
        """Nothing is kept open."""

    async def set_gateways(self, gateways: Gateways) -> None:
        """Refused: only Kamailio has gateways."""
        raise RoleError(f"this replica takes no gateway list ({len(gateways.gateways)} sent): not a kamailio")


def render_template(package: str, template: str, /, **values: object) -> str:
    """Render a role's template; an undefined name in it is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 configuration files, not HTML; values are validated models
    )
    return environment.get_template(template).render(**values)
