"""Every way in which a call can end, by name."""

from __future__ import annotations

from enum import StrEnum


class EndReason(StrEnum):
    """Why a call ended; counted in ``smd_gateway_calls_ended_total``."""

    HANGUP = "hangup"
    """The terminal's BYE."""
    CANCELLED = "cancelled"
    """The terminal's CANCEL."""
    BUSY = "busy"
    """All places or ports are taken."""
    DRAINING = "draining"
    NO_WORKER = "no_worker"
    """No media worker became ready."""
    BAD_ROOM = "bad_room"
    """The Request-URI's user part is no room name."""
    BAD_OFFER = "bad_offer"
    """No SDP, or nothing in it that can be done."""
    ROOM_REFUSED = "room_refused"
    CONFERENCE_UNAVAILABLE = "conference_unavailable"
    CONFERENCE_TIMEOUT = "conference_timeout"
    CONFERENCE_ENDED = "conference_ended"
    """The platform ended the session: kicked, room closed, lost for too long."""
    RTP_TIMEOUT = "rtp_timeout"
    NO_ACK = "no_ack"
    """Neither an ACK for our 200 nor media."""
    SESSION_EXPIRED = "session_expired"
    """The session timer ran out, and there was no media."""
    WORKER_CRASHED = "worker_crashed"
    MEDIA_FAILED = "media_failed"
    """The media worker could not do what was asked."""
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal_error"

    @property
    def status(self) -> int:
        """The SIP status code when the call was not answered yet."""
        return _STATUS.get(self, 500)


_STATUS = {
    EndReason.BUSY: 486,
    EndReason.DRAINING: 503,
    EndReason.NO_WORKER: 503,
    EndReason.BAD_ROOM: 404,
    EndReason.BAD_OFFER: 488,
    EndReason.ROOM_REFUSED: 403,
    EndReason.CONFERENCE_UNAVAILABLE: 503,
    EndReason.CONFERENCE_TIMEOUT: 504,
    EndReason.CONFERENCE_ENDED: 480,
    EndReason.WORKER_CRASHED: 503,
    EndReason.MEDIA_FAILED: 503,
    EndReason.SHUTDOWN: 503,
}
