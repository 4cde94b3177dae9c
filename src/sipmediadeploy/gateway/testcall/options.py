"""The command line of the test client, as values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sipmediadeploy.gateway.media.api import AudioCodec
from sipmediadeploy.gateway.sip.api import Hop, Transport
from sipmediadeploy.gateway.testcall.picture import Colour, parse_colour


@dataclass(frozen=True, slots=True)
class Options:
    """One test call."""

    room: str
    proxy: Hop
    """Where the INVITE goes."""
    local: str | None = None
    """Own address; None: the one that leads to the proxy."""
    source_port: int = 0
    """SIP port; 0: any free one."""
    name: str = "SIP test terminal"
    domain: str | None = None
    """Host part of the request URI; None: the proxy's."""
    seconds: float | None = None
    """None: until a signal or a BYE."""
    json: bool = False
    snapshot: Path | None = None
    file: Path | None = None
    video: bool = True
    codecs: tuple[AudioCodec, ...] = ("opus", "PCMA", "PCMU")
    """Offered audio codecs."""
    tone_hz: int = 440
    beep: bool = False
    """A 200 ms tone at each full second instead of a steady one: its edge shows the delay of sound."""
    colour: Colour = (30, 144, 255)
    width: int = 1280
    height: int = 720
    fps: int = 30
    kbps: int = 1000
    preencoded: bool = False
    decode: bool = True
    """Decode the received picture; without, frames are only counted."""

    @property
    def uri(self) -> str:
        """The room as a SIP URI."""
        host = self.domain or self.proxy.host
        port = "" if self.domain or self.proxy.port == 5060 else f":{self.proxy.port}"
        tcp = ";transport=tcp" if self.proxy.transport == "tcp" else ""
        return f"sip:{self.room}@{host}{port}{tcp}"


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Options from a command line; on a usage error says what is wrong and exits with status 2."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return Options(
            room=args.room,
            proxy=_proxy(args.to, args.transport),
            local=args.local,
            source_port=args.source_port,
            name=args.name,
            domain=args.domain,
            seconds=args.seconds,
            json=args.json,
            snapshot=args.snapshot,
            file=_existing(args.file),
            video=not args.audio_only,
            codecs=(args.codec,) if args.codec else ("opus", "PCMA", "PCMU"),
            tone_hz=args.tone,
            beep=args.beep,
            colour=parse_colour(args.colour),
            width=(size := _size(args.size))[0],
            height=size[1],
            fps=args.fps,
            kbps=args.kbps,
            preencoded=args.preencoded or args.file is not None,
            decode=not args.no_decode,
        )
    except ValueError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testcall",
        description="Place a SIP call with picture and sound, and say what comes back.",
        epilog="Exit status: 0 all arrived, 1 sound or picture did not, 2 usage or SIP failure. "
        "SIGUSR1 sends a re-INVITE; SIGINT and SIGTERM hang up.",
    )
    parser.add_argument("room", metavar="ROOM")
    parser.add_argument("--to", required=True, metavar="HOST[:PORT]", help="where the INVITE goes")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    parser.add_argument("--domain", help="host part of the SIP URI (default: that of --to)")
    parser.add_argument(
        "--local", metavar="ADDRESS", help="own address (default: the one that leads to --to)"
    )
    parser.add_argument("--source-port", type=_within(0, 65535), default=0, metavar="N", help="own SIP port")
    parser.add_argument("--name", default="SIP test terminal", metavar="DISPLAY", help="display name")
    parser.add_argument(
        "--seconds", type=_seconds, metavar="N", help="length of the call (default: until Ctrl-C)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--snapshot", type=Path, metavar="PNG", help="where to save the last decoded picture")
    parser.add_argument(
        "--file", type=Path, metavar="MEDIA", help="send the first 20 s of this file, in a loop"
    )
    parser.add_argument("--audio-only", action="store_true")
    parser.add_argument("--codec", choices=("PCMA", "PCMU", "opus"), help="offer this audio codec only")
    parser.add_argument("--tone", type=_within(50, 3400), default=440, metavar="HZ")
    parser.add_argument("--beep", action="store_true", help="beep at each full second, to measure the delay")
    parser.add_argument(
        "--colour", default="1e90ff", metavar="RRGGBB", help="of the solid area of the picture"
    )
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--fps", type=_within(1, 60), default=30)
    parser.add_argument("--kbps", type=_within(50, 20000), default=1000, help="of the picture sent")
    parser.add_argument("--preencoded", action="store_true", help="encode 4 s before the call and loop them")
    parser.add_argument("--no-decode", action="store_true", help="only count the received frames")
    return parser


def _within(low: int, high: int) -> type[int]:
    """An argparse type: an integer between two bounds."""

    class Bounded(int):
        def __new__(cls, text: str) -> Bounded:
            number = int(text)
            if not low <= number <= high:
                raise argparse.ArgumentTypeError(f"{number} is not between {low} and {high}")
            return super().__new__(cls, number)

    Bounded.__name__ = "integer"
    return Bounded


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return seconds


def _proxy(text: str, transport: Transport) -> Hop:
    host, colon, port = text.partition(":")
    if not host or (colon and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"--to {text!r}: give HOST or HOST:PORT")
    return Hop(host, int(port) if colon else 5060, transport)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ValueError(f"--size {text!r}: give WIDTHxHEIGHT, such as 1280x720")
    size = int(width), int(height)
    if any(n % 2 for n in size) or not (160 <= size[0] <= 1920 and 96 <= size[1] <= 1088):
        raise ValueError(f"--size {text!r}: even numbers between 160x96 and 1920x1088")
    return size


def _existing(path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise ValueError(f"--file {path}: there is no such file")
    return path
