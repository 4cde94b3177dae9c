"""SDP offer and answer for one SIP call (RFC 3264, RFC 8866, RFC 6184): pure, text in, values out."""

from __future__ import annotations

from dataclasses import dataclass

from sipmediadeploy.gateway.media.api import AudioCodec, SipMedia


class SdpError(Exception):
    """The session description can't be used; ``status`` is the SIP status code that says so (400 or 488)."""

    def __init__(self, reason: str, status: int = 488) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What this side can do, and where."""

    address: str
    """What ``c=`` says (IPv4)."""
    bind_address: str
    """What the media worker binds to."""
    audio_port: int
    video_port: int | None
    """None: no video."""
    audio: tuple[AudioCodec, ...] = ("opus", "PCMA", "PCMU")
    video_kbps: int = 1500
    session_id: int = 1
    version: int = 1
    """Of ``o=``: one more with each changed description (RFC 3264, section 8)."""


def answer_offer(offer: str, local: LocalMedia) -> tuple[str, SipMedia]:
    """The answer to a terminal's offer, and what was agreed.

    Raises:
        SdpError: not SDP (400), or no medium is left (488).
    """
    raise NotImplementedError


def make_offer(local: LocalMedia) -> str:
    """An offer with all that ``local`` can do."""
    raise NotImplementedError


def read_answer(answer: str, local: LocalMedia) -> SipMedia:
    """What was agreed, from the answer to ``make_offer(local)``.

    Raises:
        SdpError: not an answer to that offer (400), or no medium is left (488).
    """
    raise NotImplementedError
