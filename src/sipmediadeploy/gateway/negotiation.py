"""What one call's two sides have agreed on so far, over all its offers and answers (RFC 3264, section 8)."""

from __future__ import annotations

from dataclasses import replace

from sipmediadeploy.gateway.media.api import SipMedia
from sipmediadeploy.gateway.sip.sdp import LocalMedia, SdpError, answer_offer, make_offer, read_answer


class Negotiation:
    """The gateway's side of a call's SDP: keeps ``o=`` right and the m-lines in their places."""

    def __init__(self, local: LocalMedia) -> None:
        self._local = local
        self._sent = ""
        self._offered: str | None = None

    def answer(self, offer: str) -> tuple[str, SipMedia]:
        """Our answer, and what is agreed now. The version of ``o=`` grows only when something has changed.

        Raises:
            SdpError: the offer can't be met; all stays as it was.
        """
        sdp, media = answer_offer(offer, self._local)
        if self._sent and sdp != self._sent:
            self._local = replace(self._local, version=self._local.version + 1)
            sdp, media = answer_offer(offer, self._local)
        self._sent = sdp
        return sdp, media

    def offer(self) -> str:
        """An offer of all that we can do; the answer goes to :meth:`answered`."""
        if self._sent:
            self._local = replace(self._local, version=self._local.version + 1)
        self._sent = self._offered = make_offer(self._local, self._sent or None)
        return self._sent

    def answered(self, answer: str) -> SipMedia:
        """What is agreed now, from the answer to :meth:`offer`.

        Raises:
            SdpError: it does not fit, or we have not offered.
        """
        offered, self._offered = self._offered, None
        if offered is None:
            raise SdpError("SDP: an answer without an offer", 400)
        return read_answer(answer, self._local, offered)

    def refuse_video(self) -> None:
        """From now on there is no picture: the room was joined without one, a later one had nowhere to go."""
        self._local = replace(self._local, video_port=None)
