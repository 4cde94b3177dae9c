"""Waits until a stack that is being deployed is whole: by its scalers' API, or by what the cloud shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from sipmediadeploy.cli.deploy_progress import Progress, not_whole, shown_by_cloud, told_by_scalers
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.remote import RemoteStack, parse_address
from sipmediadeploy.protocol.scaler import API_PORT
from sipmediadeploy.protocol.sip_options import ProbeError, sip_options
from sipmediadeploy.providers.base import Provider, ProviderError
from sipmediadeploy.stack import OpenStack, Role, Stack

STEP_S = 2.0
_SIP_S = 2.0
_SILENT_S = 60.0
"""So long after all servers run the scalers' API may be silent, before it is believed to be out of reach."""
_NOBODY = "openstack.api_from names nobody"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A stack that is whole."""

    progress: Progress
    api: str | None
    """Why its scalers were not asked; None: they say so themselves."""


class Waiting:
    """Looks at a stack again and again."""

    def __init__(self, stack: Stack, master: str, version: str, provider: Provider, api: str | None) -> None:
        """``api``: where the scalers' API is, if the user says so (``ADDRESS[:PORT]``)."""
        self._stack = stack
        self._master = master
        self._version = version
        self._provider = provider
        self._given = self._at = parse_address(api) if api else None
        settings = stack.openstack or OpenStack()
        self._has_api = self._given is not None or (settings.api == "floating" and bool(settings.api_from))

    async def until_whole(self, limit_s: float, report: Report) -> Arrived:
        """Look until nothing is lacking, and tell of each change.

        Raises:
            CommandError: it is not whole after ``limit_s``.
        """
        if not self._has_api:
            report(
                "openstack.api_from names nobody: what the cloud shows of servers is all that is seen here"
            )
        began, said, run_since = time.monotonic(), "", None
        while True:
            progress, api = await self._look()
            now = time.monotonic()
            if progress.line != said:
                report(progress.line)
            said = progress.line
            if not progress.lacking:
                run_since = run_since or now
                if api is None or not self._has_api or now - run_since > _SILENT_S:
                    return Arrived(progress, api)
            else:
                run_since = None
            if now - began > limit_s:
                raise CommandError(not_whole(self._stack, progress, limit_s, api))
            await asyncio.sleep(STEP_S)

    async def _look(self) -> tuple[Progress, str | None]:
        """How far it has come; and why its scalers did not say so, None: they did."""
        why = _NOBODY
        if self._has_api:
            try:
                now = await (await self._remote()).look()
                return told_by_scalers(self._stack, now), None
            except (CommandError, ProviderError) as e:
                why, self._at = str(e), self._given
        try:
            return await self._look_from_outside(), why
        except ProviderError as e:
            return Progress(f"the cloud can't be asked: {e}", (str(e),), {}), why

    async def _remote(self) -> RemoteStack:
        """The scalers' API, where it was the last time or the cloud says it is."""
        if self._at is None:
            found = await self._provider.floating_ips()
            self._at = next(((str(ip.address), API_PORT) for ip in found if ip.role is Role.SCALER), None)
        if self._at is None:
            raise CommandError("no scaler has led yet")
        return RemoteStack(self._stack, *self._at, self._master)

    async def _look_from_outside(self) -> Progress:
        floating_ips, records = await self._provider.floating_ips(), await self._provider.inventory()
        sip = None
        public = next((ip.address for ip in floating_ips if ip.role is Role.KAMAILIO), None)
        # Who may not call gets no answer, whether Kamailio is well or not.
        if public is not None and not self._stack.sip.allow:
            try:
                await sip_options(public, self._stack.sip.port, _SIP_S)
                sip = ""
            except ProbeError as e:
                sip = str(e)
        return shown_by_cloud(self._stack, self._version, records, floating_ips, sip)
