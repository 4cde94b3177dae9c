"""The data channel of one peer connection (RFC 8831): text messages both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sipmediadeploy.gateway.media.api import MediaError
from sipmediadeploy.gateway.media.gstreamer import Element, Gst, GstWebRTC

_OPEN = GstWebRTC.WebRTCDataChannelState.OPEN


class DataChannel:
    """Our channel in a webrtcbin, when one is wanted; channels of the other side are heard, too."""

    def __init__(self, webrtc: Element, heard: Callable[[str | None], None]) -> None:
        """``heard`` gets each message, and None once, when our channel is open; from webrtcbin's threads."""
        self._webrtc = webrtc
        self._heard = heard
        self._wanted: tuple[str, str] | None = None
        self._own: Any = None
        self._others: list[Any] = []
        self._closed = False
        webrtc.connect("on-data-channel", self._theirs)

    def want(self, label: str, protocol: str) -> None:
        """Have a channel; :meth:`make` makes it, when the description that it belongs to is made."""
        self._wanted = (label, protocol)

    def make(self) -> None:
        """Make the channel that is wanted.

        Raises:
            MediaError: webrtcbin makes none.
        """
        if self._wanted is None or self._own is not None:
            return
        label, protocol = self._wanted
        options = Gst.Structure.new_empty("options")
        options.set_value("protocol", protocol)
        self._own = self._webrtc.emit("create-data-channel", label, options)
        if self._own is None:
            raise MediaError("webrtcbin makes no data channel")
        self._own.connect("on-open", lambda _channel: self._hear(None))
        self._own.connect("on-message-string", lambda _channel, text: self._hear(text))

    def send(self, text: str) -> None:
        """Send a message; it is lost when the channel is not open."""
        if self._own is not None and self._own.get_property("ready-state") == _OPEN:
            self._own.emit("send-string", text)

    def close(self) -> None:
        """Hear no more; the channel ends with its webrtcbin."""
        self._closed = True
        self._own = None
        self._others.clear()

    def _theirs(self, _webrtc: Any, channel: Any) -> None:
        self._others.append(channel)
        channel.connect("on-message-string", lambda _channel, text: self._hear(text))

    def _hear(self, text: str | None) -> None:
        if not self._closed:
            self._heard(text)
