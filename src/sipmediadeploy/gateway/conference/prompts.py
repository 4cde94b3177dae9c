"""What is said to a caller; each is a sound file that the gateway's image has."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import structlog

from sipmediadeploy.gateway.media.api import MediaWorker

log = structlog.get_logger(__name__)

DIRECTORY = Path("/usr/share/smd/prompts")


class Prompt(StrEnum):
    """Names of the files, without ``.wav``; the words are in the Ansible role ``gateway``."""

    DIAL = "dial"
    DIAL_AGAIN = "dial-again"
    LOBBY = "lobby"
    ADMITTED = "admitted"
    REFUSED = "refused"


async def say(worker: MediaWorker, prompt: Prompt) -> None:
    """Say it; a file that is missing costs the words, not the call.

    Raises:
        MediaError: the media worker is gone.
    """
    file = DIRECTORY / f"{prompt.value}.wav"
    if file.is_file():
        await worker.say(str(file))
    else:
        log.warning("prompt is missing", file=str(file))
