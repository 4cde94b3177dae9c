"""GStreamer: which elements do the job in this image, and encoding a clip before the call."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstPbutils", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstPbutils  # noqa: E402

from sipmediadeploy.gateway.testcall.options import Options  # noqa: E402
from sipmediadeploy.gateway.testcall.picture import LOOP_MS, Painter  # noqa: E402

PCM_RATE = 48000
CHUNK_MS = 20
CHUNK_BYTES = PCM_RATE * 2 * CHUNK_MS // 1000
_FILE_SECONDS = 20
_SOUND = (
    "appsrc appsink audioconvert audioresample capsfilter rtpbin rtpsession rtpjitterbuffer udpsrc udpsink"
    " alawenc alawdec mulawenc mulawdec opusenc opusdec rtppcmapay rtppcmadepay rtppcmupay rtppcmudepay"
    " rtpopuspay rtpopusdepay"
)
_PICTURE = "h264parse rtph264pay rtph264depay videoconvert"
_CLIP_TIMEOUT_NS = 120 * 10**9


class MissingElement(Exception):
    """GStreamer lacks something that the call needs; the text says what and where it comes from."""


class ClipError(Exception):
    """The media file can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A loop, ready to be sent."""

    access_units: list[bytes]
    """H.264 byte stream, one access unit each."""
    key: list[bool]
    """Which of them are IDR pictures."""
    pcm: bytes | None
    """16-bit mono at 48 kHz, whole chunks of 20 ms; None: the tone is sent."""


def first_of(purpose: str, *names: str) -> str:
    """The first element that exists. Raises MissingElement."""
    Gst.init(None)
    for name in names:
        if Gst.ElementFactory.find(name) is not None:
            return name
    raise MissingElement(f"GStreamer has nothing to {purpose} here: none of {', '.join(names)}")


def encoder(kbps: int, gop: int) -> str:
    """Launch text of a real-time H.264 encoder, constrained baseline, with an IDR every ``gop`` frames."""
    name = first_of("encode H.264", "x264enc", "openh264enc")
    if name == "x264enc":
        settings = (
            f"tune=zerolatency speed-preset=ultrafast bitrate={kbps} vbv-buf-capacity=300 key-int-max={gop} "
            "threads=1 sliced-threads=false bframes=0 aud=false option-string=scenecut=0"
        )
    else:
        settings = (
            f"bitrate={kbps * 1000} max-bitrate={kbps * 1500} rate-control=bitrate gop-size={gop} "
            "complexity=low"
        )
    return (
        f"{name} name=encoder {settings} ! video/x-h264,profile=constrained-baseline ! "
        "h264parse ! video/x-h264,stream-format=byte-stream,alignment=au"
    )


def check(options: Options) -> None:
    """Raise MissingElement when a call with these options can't work here."""
    if options.video:
        encoder(options.kbps, options.fps)
        decoder()
    for codec in options.codecs:
        if codec == "opus":
            first_of("encode Opus", "opusenc")
    for name in ("rtpbin", "udpsrc", "rtph264pay", "alawenc", "mulawenc", "audioresample"):
        first_of("send and receive RTP", name)


def load(options: Options) -> None:
    """Load the plugins that the call will need: opening their libraries takes a tenth of a second."""
    names = _SOUND.split()
    if options.video:
        names += [*_PICTURE.split(), decoder()]
        names += [] if options.preencoded else [encoder(options.kbps, options.fps).split(" ", 1)[0]]
    Gst.init(None)
    for name in names:
        if (factory := Gst.ElementFactory.find(name)) is not None:
            factory.load()


def decoder() -> str:
    return first_of("decode H.264", "avdec_h264", "openh264dec")


def raw_caps(options: Options) -> str:
    """Caps of the generated picture."""
    colorimetry = "bt709" if options.height >= 720 else "bt601"
    return (
        f"video/x-raw,format=I420,width={options.width},height={options.height},"
        f"framerate={options.fps}/1,colorimetry={colorimetry}"
    )


def encode_pattern(options: Options) -> Clip:
    """The generated picture for one turn of the time strip, with an IDR each half second."""
    painter = Painter(options.width, options.height, options.name, options.colour)
    count = LOOP_MS * options.fps // 1000
    frames = (painter.frame("looped", index * 1000 // options.fps) for index in range(count))
    pipeline = _launch(
        f"appsrc name=source format=time caps={raw_caps(options)} max-bytes={4 * painter.size} block=true ! "
        f"{encoder(options.kbps, _clip_gop(options))} ! appsink name=video sync=false"
    )
    units, key = _run(pipeline, frames, options.fps)
    return Clip(units, key, None)


def encode_file(options: Options) -> Clip:
    """Picture and sound of the first 20 s of a file. A file without a picture or without sound is fine.

    Raises:
        ClipError: it can't be decoded, or has neither.
    """
    assert options.file is not None
    kinds = _kinds_in(options.file)
    units: list[bytes] = []
    key: list[bool] = []
    if options.video and "video" in kinds:
        chain = (
            "videoconvert name=first ! videoscale add-borders=true ! videorate "
            f"! {raw_caps(options)},pixel-aspect-ratio=1/1 ! {encoder(options.kbps, _clip_gop(options))}"
        )
        units, key = _decode(options.file, "video", chain)
    elif options.video:
        pattern = encode_pattern(options)
        units, key = pattern.access_units, pattern.key
    pcm = b""
    if "audio" in kinds:
        chain = (
            f"audioconvert name=first ! audioresample ! audio/x-raw,format=S16LE,rate={PCM_RATE},channels=1"
        )
        pcm = b"".join(_decode(options.file, "audio", chain)[0])
    return Clip(units, key, pcm[: len(pcm) // CHUNK_BYTES * CHUNK_BYTES] or None)


def _clip_gop(options: Options) -> int:
    return max(1, options.fps // 2)


def _kinds_in(path: Path) -> set[str]:
    """Which of ``audio`` and ``video`` a file has. Raises ClipError when it has neither."""
    Gst.init(None)
    try:
        info = GstPbutils.Discoverer.new(10 * Gst.SECOND).discover_uri(path.resolve().as_uri())
    except GLib.Error as error:
        raise ClipError(f"{path}: {error.message}") from error
    kinds = {
        kind
        for kind, streams in (("video", info.get_video_streams()), ("audio", info.get_audio_streams()))
        if streams
    }
    if not kinds:
        raise ClipError(f"{path}: it has neither a picture nor sound")
    return kinds


def _decode(path: Path, kind: str, chain: str) -> tuple[list[bytes], list[bool]]:
    """One kind of stream of a file. Raises ClipError."""
    pipeline = _launch(f"uridecodebin name=file {chain} ! appsink name={kind} sync=false")
    file, start = pipeline.get_by_name("file"), pipeline.get_by_name("first")
    file.set_property("uri", path.resolve().as_uri())

    def link(_decoder: Any, pad: Any) -> None:
        sink = start.get_static_pad("sink")
        if pad.get_current_caps().to_string().startswith(f"{kind}/x-raw") and not sink.is_linked():
            pad.link(sink)
            return
        unused = Gst.ElementFactory.make("fakesink")
        unused.set_property("async", False)
        pipeline.add(unused)
        unused.sync_state_with_parent()
        pad.link(unused.get_static_pad("sink"))

    file.connect("pad-added", link)
    return _pull(pipeline, kind, _FILE_SECONDS * Gst.SECOND)


def _launch(text: str) -> Gst.Pipeline:
    Gst.init(None)
    return Gst.parse_launch(text)


def _run(pipeline: Gst.Pipeline, frames: Iterable[bytes], fps: int) -> tuple[list[bytes], list[bool]]:
    """Feed all frames, collect what comes out."""
    source = pipeline.get_by_name("source")

    def feed() -> None:
        for index, frame in enumerate(frames):
            buffer = Gst.Buffer.new_wrapped(frame)
            buffer.pts = index * Gst.SECOND // fps
            buffer.duration = Gst.SECOND // fps
            source.emit("push-buffer", buffer)
        source.emit("end-of-stream")

    feeder = threading.Thread(target=feed, name="clip", daemon=True)
    pipeline.set_state(Gst.State.PLAYING)
    feeder.start()
    return _pull(pipeline, "video", None)


def _pull(pipeline: Gst.Pipeline, sink_name: str, limit_ns: int | None) -> tuple[list[bytes], list[bool]]:
    """Run until the end or the limit of stream time. Raises ClipError."""
    sink = pipeline.get_by_name(sink_name)
    sink.set_property("max-buffers", 64)
    pipeline.set_state(Gst.State.PLAYING)
    units: list[bytes] = []
    key: list[bool] = []
    try:
        while (sample := sink.emit("try-pull-sample", _CLIP_TIMEOUT_NS)) is not None:
            buffer = sample.get_buffer()
            units.append(buffer.extract_dup(0, buffer.get_size()))
            key.append(not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT))
            if limit_ns is not None and buffer.pts != Gst.CLOCK_TIME_NONE and buffer.pts >= limit_ns:
                break
        error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        if not units:
            raise ClipError(error.parse_error()[0].message if error else "nothing could be decoded")
    finally:
        pipeline.set_state(Gst.State.NULL)
    return units, key
