"""Kamailio's control interface: JSON-RPC over a UNIX datagram socket (module jsonrpcs)."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any


class RpcError(Exception):
    """Kamailio did not do what was asked; the message is its own, or says that it is silent."""


class NoAnswer(RpcError):
    """There is no Kamailio, or it is silent."""


async def call(path: Path, method: str, timeout_s: float = 2.0) -> Any:
    """Call ``method`` and return its result.

    Raises:
        NoAnswer: no Kamailio there, or no answer in time.
        RpcError: an error was answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind("")  # an abstract address: no file that would have to be writable for Kamailio's user
        try:
            sock.connect(str(path))
            sock.send(json.dumps({"jsonrpc": "2.0", "method": method, "id": 1}).encode())
            async with asyncio.timeout(timeout_s):
                answer = json.loads(await asyncio.get_running_loop().sock_recv(sock, 1 << 20))
        except TimeoutError:
            raise NoAnswer(f"no answer to {method} within {timeout_s:g} s") from None
        except (OSError, ValueError) as e:
            raise NoAnswer(f"{method}: {e}") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise RpcError(f"{method}: {answer.get('error') if isinstance(answer, dict) else answer}")
    return answer.get("result")
