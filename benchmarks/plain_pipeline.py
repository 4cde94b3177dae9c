"""The least that a gateway must do, as a yardstick: RTP in, RTP out, both ways, nothing else.

H.264 is unpacked, parsed and packed again; sound goes from PCMA to Opus and back. No SIP, no WebRTC.
Run by :mod:`benchmarks.call_cost` with the arguments BASE A_AUDIO A_VIDEO B_AUDIO B_VIDEO (port numbers).
It listens for A on BASE (sound) and BASE + 2 (picture), for B on BASE + 4 and BASE + 6.
"""

from __future__ import annotations

import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

_PCMA = "application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMA,payload=8"
_OPUS = "application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=111"
_H264 = "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96"
_JITTER = "rtpjitterbuffer latency=20"


def pipeline_text(base: int, a_audio: int, a_video: int, b_audio: int, b_video: int) -> str:
    """A speaks PCMA, B speaks Opus."""
    picture = f"{_JITTER} ! rtph264depay ! h264parse ! rtph264pay pt=96 mtu=1200 config-interval=-1"
    to_opus = (
        f"{_JITTER} ! rtppcmadepay ! alawdec ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=111"
    )
    to_pcma = (
        f"{_JITTER} ! rtpopusdepay ! opusdec ! audioconvert ! audioresample "
        "! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay pt=8"
    )
    ways = (
        (base, _PCMA, to_opus, b_audio),
        (base + 2, _H264, picture, b_video),
        (base + 4, _OPUS, to_pcma, a_audio),
        (base + 6, _H264, picture, a_video),
    )
    return "\n".join(
        f'udpsrc address=127.0.0.1 port={port} caps="{caps}" buffer-size=2000000 ! {work} '
        f"! udpsink host=127.0.0.1 port={to} sync=false async=false"
        for port, caps, work, to in ways
    )


def main() -> None:
    Gst.init(None)
    pipeline = Gst.parse_launch(pipeline_text(*(int(value) for value in sys.argv[1:6])))
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    pipeline.set_state(Gst.State.PLAYING)
    print("ready", flush=True)
    loop.run()
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
