"""GStreamer in a worker: its bindings, start-up and the few helpers that every part of the graph needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import gi

for _name in ("Gst", "GstNet", "GstSdp", "GstVideo", "GstWebRTC", "GstRtp"):
    gi.require_version(_name, "1.0")
gi.require_version("Nice", "0.1")
from gi.repository import (  # noqa: E402
    Gio,
    GLib,
    Gst,
    GstNet,
    GstRtp,
    GstSdp,
    GstVideo,
    GstWebRTC,
    Nice,  # noqa: F401  webrtcbin's ICE agent has its methods by it
)

from sipmediadeploy.gateway.media.api import MediaError  # noqa: E402

__all__ = ["GLib", "Gio", "Gst", "GstNet", "GstRtp", "GstSdp", "GstVideo", "GstWebRTC"]

Element = Any
Pad = Any

KEYFRAME_RETRY_MS = 700
"""A key frame that was asked for and has not come is asked for again after so long."""

KEYFRAME_TRIES = 8
"""So often; a sender that has not sent one by then sends none when it is asked."""

_USED = (
    "alawdec alawenc audiomixer audioresample capsfilter fakesink h264parse input-selector funnel level"
    " mulawdec mulawenc nicesink nicesrc dtlssrtpenc srtpenc opusdec opusenc openh264enc rtpbin"
    " rtph264depay rtph264pay rtpopusdepay rtpopuspay rtppcmadepay rtppcmapay rtppcmudepay rtppcmupay"
    " rtpvp8depay tee udpsink udpsrc valve videoscale vp8dec webrtcbin"
)

_TYPES = {
    Gst: "Buffer BufferFlags Caps Element Event GhostPad MiniObject Pad PadProbeInfo PadProbeReturn ProxyPad"
    " Promise Structure",
    GstNet: "NetAddressMeta",
    Gio: "InetAddress InetSocketAddress Socket SocketAddress",
    GstRtp: "RTPBuffer RTPHeaderExtension",
    GstWebRTC: "WebRTCRTPTransceiver WebRTCSessionDescription",
}
"""What callbacks in streaming threads get. PyGObject makes the Python class of a type at its first use, and
two threads that do so at once get two classes, of which calls accept only one."""


def start() -> None:
    """Initialise GStreamer and load every plugin that a call uses, so that a call starts at once.

    Raises:
        MediaError: an element is not installed.
    """
    os.environ.setdefault("GST_REGISTRY_FORK", "no")
    Gst.init(None)
    for namespace, names in _TYPES.items():
        for name in names.split():
            getattr(namespace, name)
    missing = []
    for name in _USED.split():
        factory = Gst.ElementFactory.find(name)
        if factory is None or factory.load() is None:
            missing.append(name)
    if missing:
        raise MediaError(f"GStreamer elements are not installed: {', '.join(missing)}")
    make("dtlsdec")  # the first one makes the process' certificate, which takes up to 0.7 s


def make(factory: str, **properties: object) -> Element:
    """An element with its properties (``_`` in a name stands for ``-``).

    Raises:
        MediaError: no such element.
    """
    named = {name.replace("_", "-"): value for name, value in properties.items()}
    values = {name: value for name, value in named.items() if not isinstance(value, str)}
    element = Gst.ElementFactory.make_with_properties(factory, list(values), list(values.values()))
    if element is None:
        raise MediaError(f"GStreamer element {factory} is not installed")
    for name in named.keys() - values.keys():
        Gst.util_set_object_arg(element, name, named[name])  # takes the nick of an enumeration's value
    return element


def parse_bin(description: str) -> Element:
    """A bin from a launch line, with no ghost pads yet."""
    return Gst.parse_bin_from_description(description, False)


def ghost(container: Element, name: str, pad: Pad) -> Pad:
    """Show ``pad`` of an inner element as pad ``name`` of its bin."""
    outer = Gst.GhostPad.new(name, pad)
    outer.set_active(True)
    container.add_pad(outer)
    return outer


def link(source: Pad, sink: Pad) -> None:
    """Link two pads.

    Raises:
        MediaError: they do not fit.
    """
    result = source.link(sink)
    if result != Gst.PadLinkReturn.OK:
        raise MediaError(f"cannot link {source.get_name()} to {sink.get_name()}: {result.value_nick}")


def remove(pipeline: Element, *elements: Element) -> None:
    """Stop elements and take them out of the pipeline."""
    for element in elements:
        element.set_locked_state(True)
        element.set_state(Gst.State.NULL)
        pipeline.remove(element)


class Outlet:
    """One branch of a tee that can be taken off while data flows."""

    def __init__(self, tee: Element, sink: Pad) -> None:
        self._tee = tee
        self._pad = tee.request_pad_simple("src_%u")
        link(self._pad, sink)

    def close(self) -> None:
        """Take the branch off."""
        peer = self._pad.get_peer()
        if peer is not None:
            self._pad.unlink(peer)
        self._tee.release_request_pad(self._pad)


def force_key_unit(fir: int | None = None) -> Any:
    """The upstream event that asks a sender for a key frame: by PLI, or by FIR number ``fir``.

    A FIR with the number of the last one is a repetition and would be ignored (RFC 5104, section 4.3.1.1).
    """
    return GstVideo.video_event_new_upstream_force_key_unit(Gst.CLOCK_TIME_NONE, fir is not None, fir or 0)


def is_force_key_unit(event: Any) -> bool:
    """Whether an event asks for a key frame."""
    return bool(GstVideo.video_event_is_force_key_unit(event))


PICTURE = Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM
"""Types of a probe that calls :func:`before_idr`."""


def before_idr(info: Any) -> Any:
    """A probe's answer to H.264 that has no key frame yet: drop access units and gaps, end at the key frame.

    A payloader that gets them sends its segment before it has caps, and nobody can use its packets.
    """
    if info.type & Gst.PadProbeType.BUFFER:
        delta = info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT)
        return Gst.PadProbeReturn.DROP if delta else Gst.PadProbeReturn.REMOVE
    return Gst.PadProbeReturn.DROP if info.get_event().type == Gst.EventType.GAP else Gst.PadProbeReturn.OK


def hold_until_idr(pad: Pad, ask: Callable[[], None]) -> None:
    """Drop what passes ``pad`` before a key frame, asking for one (in the main thread) while it comes."""
    asked = time.monotonic()

    def passing(_pad: Pad, info: Any) -> Any:
        nonlocal asked
        answer = before_idr(info)
        if answer == Gst.PadProbeReturn.DROP and time.monotonic() - asked >= KEYFRAME_RETRY_MS / 1000:
            asked = time.monotonic()
            GLib.idle_add(ask)
        return answer

    pad.add_probe(PICTURE, passing)


def insist_on_keyframes(depay: Element) -> None:
    """Ask again for a key frame that was asked for through ``depay``, until it comes.

    A request is lost like any packet, and is in vain while the sender pauses; a depayloader asks once a loss.
    """
    sink, source = depay.get_static_pad("sink"), depay.get_static_pad("src")
    waiting = False

    def coming(_pad: Pad, info: Any) -> Any:
        nonlocal waiting
        if waiting and info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT):
            return Gst.PadProbeReturn.OK
        waiting = False
        return Gst.PadProbeReturn.REMOVE

    def again(left: int) -> bool:
        nonlocal waiting
        if waiting and left > 0:
            sink.push_event(force_key_unit())
            GLib.timeout_add(KEYFRAME_RETRY_MS, again, left - 1)
        elif waiting:
            waiting = False
        return False

    def asked(_pad: Pad, info: Any) -> Any:
        nonlocal waiting
        if not waiting and is_force_key_unit(info.get_event()):
            waiting = True
            source.add_probe(Gst.PadProbeType.BUFFER, coming)
            GLib.timeout_add(KEYFRAME_RETRY_MS, again, KEYFRAME_TRIES - 1)
        return Gst.PadProbeReturn.OK

    sink.add_probe(Gst.PadProbeType.EVENT_UPSTREAM, asked)


def renew_key_requests(tee: Element) -> None:
    """Let key-frame requests from behind ``tee`` pass without the SSRC that the RTP session there gave them.

    rtpssrcdemux keeps an SSRC that it finds in the event, and the other session knows nothing of that one.
    """

    def upstream(pad: Pad, info: Any) -> Any:
        event = info.get_event()
        if not is_force_key_unit(event) or not event.get_structure().has_field("ssrc"):
            return Gst.PadProbeReturn.OK
        pad.push_event(force_key_unit())
        return Gst.PadProbeReturn.DROP

    tee.get_static_pad("sink").add_probe(Gst.PadProbeType.EVENT_UPSTREAM, upstream)


def first_caps(pad: Pad) -> Any:
    """The structure of a pad's caps (its current ones, or what it could have)."""
    caps = pad.get_current_caps() or pad.query_caps(None)
    return caps.get_structure(0)
