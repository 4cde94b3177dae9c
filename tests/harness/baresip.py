"""A real terminal from somebody else: drives Debian's baresip 1.0.0 without any device.

What was found out about baresip 1.0.0 (packages ``baresip-core`` and ``baresip-ffmpeg``):

* H.264 comes from ``avcodec.so`` (baresip-ffmpeg: libx264 and FFmpeg's decoder). It offers and takes
  packetization-mode 1, constrained baseline, ``nack pli``. ``video_codecs=H264`` in the account makes it
  refuse video (the name alone matches neither variant): leave that parameter out.
* Picture source: ``avformat`` with a file. At the file's end the timestamps start anew and the picture stalls
  at about 1 frame a second, so the file must be longer than the call. Motion JPEG (4:2:0) works; full-range
  values come out as limited range, so colours are off by up to 15. ``fakevideo`` sends grey lines only.
* ``fakevideo`` as display accepts and decodes what arrives; ``snapshot.so`` writes the next received frame to
  the path given by the command ``snapshot_recv`` (PNG, whatever the name).
* Sound source: ``ausine`` (48 kHz stereo only: ``ausrc_srate``, ``ausrc_channels``; resampled to the codec).
  ``aufile`` is a source only here. Player: ``aubridge`` with a device that nobody reads. ``sndfile`` as a
  filter writes what is received (``dump-*-dec.wav``); the header's lengths are right only after the call.
* ``sip_listen`` takes the next port too (for TLS): keep it free. It is also the source port of all requests.
* ``net_interface lo`` does not work: without it the SDP names the address of the default route's interface,
  also when SIP goes over loopback.
* ``ctrl_tcp``: netstrings with ``{"command", "params", "token"}``; answers have the token, events a ``type``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.harness.media_tools import write_mjpeg

_MODULES = "opus g711 sndfile ausine aubridge avcodec avformat fakevideo snapshot"
_APPLICATIONS = "account ctrl_tcp menu"


@dataclass(frozen=True, slots=True)
class Settings:
    """One terminal."""

    workdir: Path
    """Configuration, pictures and recordings; in a container mounted under the same path."""
    address: str
    """Where it listens for SIP and for the driver."""
    sip_port: int = 0
    """Also the source port of its requests; 0: a free one (with ``prefix``: 5060)."""
    colour: str = "20c040"
    tone_hz: int = 600
    video: bool = True
    audio_codecs: Sequence[str] = ("opus", "pcma", "pcmu")
    """In order of preference."""
    user: str = "baresip"
    """Calls to another user part are refused with 404."""
    name: str = "Baresip"
    seconds: float = 120
    """How long the picture lasts at least."""
    size: tuple[int, int] = (640, 360)
    fps: int = 25
    kbps: int = 800
    trace: bool = False
    """Write every SIP message into the log."""
    prefix: Sequence[str] = field(default=())
    """A command that runs baresip elsewhere, such as ``docker run --rm ... smd/test``."""


class Baresip:
    """A running baresip; a context manager. It answers calls by itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        free = 5060 if settings.prefix else _free_ports(settings.address)
        self.sip_port = settings.sip_port or free
        self._control_port = 5570 if settings.prefix else free + 2
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._socket: socket.socket | None = None
        self._pending = b""
        self._events: list[dict[str, Any]] = []
        self._snapshots = 0

    @property
    def uri(self) -> str:
        return f"sip:{self.settings.user}@{self.settings.address}:{self.sip_port}"

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.settings.workdir / "log").read_text(errors="replace")

    def __enter__(self) -> Baresip:
        workdir = self.settings.workdir
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config").write_text(self._config())
        (workdir / "accounts").write_text(self._account())
        (workdir / "contacts").write_text("")
        if self.settings.video:
            write_mjpeg(
                workdir / "picture.mjpeg",
                self.settings.colour,
                self.settings.seconds,
                self.settings.fps,
                self.settings.size,
            )
        self._log = (workdir / "log").open("wb")
        self._process = subprocess.Popen(
            [*self.settings.prefix, "baresip", *(["-s"] if self.settings.trace else []), "-f", str(workdir)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=workdir,
        )
        try:
            self._connect()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.command("hangup")
            self._send("quit", "")
        self._stop()

    def dial(self, uri: str, timeout: float = 45) -> float:
        """Call and wait for the answer; seconds it took."""
        began = time.monotonic()
        self.command("dial", uri)
        self.wait_for("CALL_ESTABLISHED", timeout)
        return time.monotonic() - began

    def hang_up(self) -> None:
        """End the call; the recording is complete afterwards."""
        self.command("hangup")

    def hold(self) -> None:
        """Send a re-INVITE with sendonly."""
        self.command("hold")

    def resume(self) -> None:
        """Send a re-INVITE with sendrecv."""
        self.command("resume")

    def call_state(self) -> str:
        """What the command ``callstat`` says."""
        return str(self.command("callstat"))

    def snapshot(self, timeout: float = 45) -> Path:
        """A PNG of the next received frame."""
        self._snapshots += 1
        path = self.settings.workdir / f"received-{self._snapshots}.png"
        self.command("snapshot_recv", str(path))
        # The frame is written while the path is there already: it is whole when it ends as PNG files do.
        self._until(
            lambda: path.exists() and path.read_bytes()[-8:-4] == b"IEND", timeout, "no frame received"
        )
        return path

    def recording(self) -> Path:
        """What was heard in the newest call (WAV)."""
        found = sorted(self.settings.workdir.glob("dump-*-dec.wav"))
        assert found, f"no recording; baresip said:\n{self.log[-2000:]}"
        return found[-1]

    def command(self, command: str, parameters: str = "", timeout: float = 30) -> str:
        """Run one command; its output. Raises AssertionError when it fails or is not answered in time."""
        token = self._send(command, parameters)
        answer = self._next(lambda message: message.get("token") == token, timeout, f"answer to {command}")
        assert answer["ok"], f"baresip refused {command} {parameters}: {answer}"
        return str(answer.get("data", ""))

    def wait_for(self, event: str, timeout: float) -> dict[str, Any]:
        """The next event of a type such as CALL_ESTABLISHED or CALL_CLOSED."""
        return self._next(lambda message: message.get("type") == event, timeout, event)

    def _config(self) -> str:
        settings, workdir = self.settings, self.settings.workdir
        lines = [
            "poll_method epoll",
            f"sip_listen {settings.address}:{self.sip_port}",
            "call_local_timeout 120",
            "call_max_calls 4",
            "audio_player aubridge,heard",
            f"audio_source ausine,{settings.tone_hz}",
            "audio_alert aubridge,alert",
            "ausrc_srate 48000",
            "ausrc_channels 2",
            *(f"{name}_format s16" for name in ("ausrc", "auplay", "auenc", "audec")),
            "video_display fakevideo,nil",
            f"video_size {settings.size[0]}x{settings.size[1]}",
            f"video_bitrate {settings.kbps * 1000}",
            f"video_fps {settings.fps}",
            "videnc_format yuv420p",
            "rtp_ports 20000-28000",
            "jitter_buffer_delay 1-5",
            f"snd_path {workdir}",
            f"ctrl_tcp_listen {settings.address}:{self._control_port}",
            "module_path /usr/lib/baresip/modules",
            *(f"module {name}.so" for name in _MODULES.split()),
            *(f"module_app {name}.so" for name in _APPLICATIONS.split()),
        ]
        if settings.video:
            lines.append(f"video_source avformat,{workdir}/picture.mjpeg")
        return "\n".join(lines) + "\n"

    def _account(self) -> str:
        rates = {"opus": "opus/48000/2", "pcma": "PCMA/8000/1", "pcmu": "PCMU/8000/1"}
        codecs = ",".join(rates[codec.lower()] for codec in self.settings.audio_codecs)
        return f'"{self.settings.name}" <{self.uri}>;regint=0;answermode=auto;audio_codecs={codecs}\n'

    def _connect(self) -> None:
        def connected() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"baresip has ended:\n{self.log[-2000:]}"
            try:
                self._socket = socket.create_connection(
                    (self.settings.address, self._control_port), timeout=1
                )
            except OSError:
                return False
            return True

        self._until(connected, 45, "baresip does not listen")

    def _until(self, condition: Callable[[], bool], timeout: float, failure: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"{failure}; baresip said:\n{self.log[-2000:]}"
            time.sleep(0.05)

    def _send(self, command: str, parameters: str) -> str:
        assert self._socket is not None
        token = f"{command}-{time.monotonic_ns()}"
        message = json.dumps({"command": command, "params": parameters, "token": token}).encode()
        self._socket.sendall(b"%d:%s," % (len(message), message))
        return token

    def _next(self, wanted: Callable[[dict[str, Any]], bool], timeout: float, what: str) -> dict[str, Any]:
        """The next message that fits; others are kept."""
        deadline = time.monotonic() + timeout
        while True:
            for index, message in enumerate(self._events):
                if wanted(message):
                    return self._events.pop(index)
            left = deadline - time.monotonic()
            assert left > 0, f"no {what} within {timeout} s; baresip said:\n{self.log[-2000:]}"
            self._receive(left)

    def _receive(self, timeout: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return
        assert data, f"baresip has closed the control connection:\n{self.log[-2000:]}"
        self._pending += data
        while (colon := self._pending.find(b":")) > 0:
            end = colon + 1 + int(self._pending[:colon])
            if len(self._pending) <= end:
                return
            self._events.append(json.loads(self._pending[colon + 1 : end]))
            self._pending = self._pending[end + 1 :]

    def _stop(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self._process.terminate()
                try:
                    self._process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
        if self._socket is not None:
            self._socket.close()
        if self._log is not None:
            self._log.close()


def _free_ports(address: str) -> int:
    """The first of three free ports in a row (SIP, its TLS port, the driver's)."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind((address, 0))
            port: int = first.getsockname()[1]
            try:
                for kind, number in (
                    (socket.SOCK_STREAM, port + 1),
                    (socket.SOCK_STREAM, port + 2),
                    (socket.SOCK_DGRAM, port),
                ):
                    stack.enter_context(socket.socket(socket.AF_INET, kind)).bind((address, number))
            except OSError:
                continue
            return port
    raise OSError(f"no three free ports in a row on {address}")
