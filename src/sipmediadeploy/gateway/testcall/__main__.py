"""``python3 -m sipmediadeploy.gateway.testcall ROOM --to HOST``: see :mod:`.options`."""

from __future__ import annotations

import asyncio
import sys

from sipmediadeploy.gateway.testcall.options import parse_options


def main() -> int:
    """Exit status: 0 all arrived, 1 sound or picture did not, 2 usage or SIP failure."""
    options = parse_options()
    try:
        # GStreamer is loaded after the command line was read: "--help" works without it.
        from sipmediadeploy.gateway.testcall.call import CallFailed, TestCall, complain
        from sipmediadeploy.gateway.testcall.elements import ClipError, MissingElement
    except (ImportError, ValueError) as error:
        print(f"testcall: a library is missing here: {error}", file=sys.stderr)
        return 2

    async def call() -> list[str]:
        return await TestCall(options).run()

    try:
        return 1 if asyncio.run(call()) else 0
    except CallFailed as error:
        complain(options, str(error), error.status)
    except (ClipError, MissingElement) as error:
        complain(options, str(error), None)
    return 2


if __name__ == "__main__":
    sys.exit(main())
