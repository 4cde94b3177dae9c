"""What a call asks of its media worker: the parent's end of the protocol."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest

from sipmediadeploy.gateway.media import wire
from sipmediadeploy.gateway.media.process import WorkerProcess


async def test_a_call_that_ends_as_the_worker_answers_does_end() -> None:
    """A lost cancellation kept the caller in the conference for ever."""
    said: list[dict[str, Any]] = []
    writer = Mock(spec=asyncio.StreamWriter)
    writer.write.side_effect = lambda line: said.append(wire.parse(line))
    worker = WorkerProcess(cast(asyncio.subprocess.Process, Mock()), writer)

    async def describes_for_ever() -> None:
        while True:
            await worker.describe("demo", ["Ann"])

    task = asyncio.create_task(describes_for_ever())
    await asyncio.sleep(0)  # it asks
    worker._take({"id": said[0]["id"], "ok": None})
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=5)
    assert task in done
    with pytest.raises(asyncio.CancelledError):
        task.result()
