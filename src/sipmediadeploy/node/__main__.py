"""``python3 -m sipmediadeploy.node``: as ``smd node``, without the modules of a command line.

This is what replicas run: each module that is loaded stays in their memory.
"""

from __future__ import annotations

import sys

from sipmediadeploy.node.agent import main

if __name__ == "__main__":
    sys.exit(main())
