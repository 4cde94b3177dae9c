"""``smd node``."""

from __future__ import annotations

import importlib


def node() -> int:
    """Run the agent until it ends; its exit code."""
    agent = importlib.import_module("sipmediadeploy.node.agent")
    return int(agent.main() or 0)
