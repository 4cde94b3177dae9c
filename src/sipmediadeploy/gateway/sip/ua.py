"""The SIP user agent: calls come in through a handler, go out with :meth:`UserAgent.place`.

Used by the gateway's server and by the test client. In-dialog requests go to the first Route (RFC 3261,
section 12.2.1.1), never to where the INVITE happened to come from.
"""

from __future__ import annotations

from sipmediadeploy.gateway.sip.api import Dialog, DialogEvents, Hop


class UserAgent:
    """A user agent on one address, UDP and TCP."""

    def __init__(self, address: str, port: int = 0) -> None: ...

    async def start(self) -> None:
        """Bind; port 0 takes a free one."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Close all sockets and timers; dialogs are forgotten, not ended."""
        raise NotImplementedError

    async def place(
        self,
        uri: str,
        *,
        proxy: Hop,
        offer: str,
        events: DialogEvents | None = None,
        from_user: str = "smd",
        display_name: str = "",
    ) -> Dialog:
        """Call ``uri`` through ``proxy``; returns when answered. Cancelling the task sends a CANCEL.

        Raises:
            CallRefused: a final response other than 2xx, or none within 32 s of the last sign of life.
        """
        raise NotImplementedError
