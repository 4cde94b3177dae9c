"""``python3 -m sipmediadeploy.node``: as ``smd node``, with as few modules as can be.

This is what replicas run: each module that is loaded stays in their memory.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # structlog loads rich, for developers' tracebacks, wherever that is installed: 3 MB.
    sys.modules["rich"] = None  # type: ignore[assignment]
    from sipmediadeploy.node.agent import main

    sys.exit(main())
