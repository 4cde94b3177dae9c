"""The agent's memory: a replica does little else, and there is an agent in each."""

from __future__ import annotations

import ctypes
import gc


def release_memory() -> None:
    """Give back to the kernel what only the start needed, and keep collections from what stays (glibc)."""
    gc.collect()
    gc.freeze()
    ctypes.CDLL(None).malloc_trim(0)
