"""What a call has shown, second by second and as a whole: values, verdict and their text. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from sipmediadeploy.gateway.testcall.sound import SOUND_FLOOR_DB, Tone


@dataclass(frozen=True, slots=True)
class Flow:
    """Counters of one RTP stream since the call began."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    """Received: missed by us. Sent: missed by the other side, as its RTCP says."""
    jitter_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """The sound of one second."""

    level_db: float = -100.0
    tones: tuple[Tone, ...] = ()
    silent_ms: int = 0
    """The longest time without sound that was going on in this second, with what of it was before."""
    delay_ms: int | None = None
    """Age of the last beep edge by this machine's clock (the sender uses ``--beep`` and the same clock)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The picture at the end of one second."""

    frames: int = 0
    """Decoded in this second."""
    width: int = 0
    height: int = 0
    colour: str = ""
    """Mean colour of the whole picture, RRGGBB; empty: nothing decoded yet."""
    code_colour: str = ""
    """Mean colour of the area where a test picture has its solid colour."""
    delay_ms: int | None = None
    """Median age of the second's frames by this machine's clock, when they are generated test pictures."""


@dataclass(frozen=True, slots=True)
class Second:
    """One second of a call."""

    t: int
    audio_out: Flow = Flow()
    audio_in: Flow = Flow()
    video_out: Flow = Flow()
    video_in: Flow = Flow()
    heard: Heard = Heard()
    seen: Seen = Seen()
    keyframe_requests: int = 0
    """Received by RTCP or INFO since the call began."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole call."""

    seconds: float
    invited_at: float | None = None
    """When the INVITE was sent, by the wall clock: seconds since the epoch."""
    connected_ms: int | None = None
    """From INVITE to the 200."""
    first_frame_ms: int | None = None
    """From INVITE to the first decoded frame."""
    first_sound_ms: int | None = None
    """From INVITE to the first sound louder than -50 dBFS."""
    frames: int = 0
    longest_video_gap_ms: int = 0
    """Between two decoded frames."""
    longest_audio_gap_ms: int = 0
    """Between two decoded pieces of sound."""
    ended_by: str = "here"
    """``here``, ``peer`` or ``lost``."""
    bye_status: int | None = None
    decoding: bool = True
    """False: pictures were not decoded, packets are all there is to judge."""
    last: Second = field(default_factory=lambda: Second(0))


def problems(summary: Summary, video: bool) -> list[str]:
    """What was wanted and did not arrive, in words; empty when all is well."""
    found = []
    if summary.last.audio_in.packets == 0:
        found.append("no sound arrived: not one RTP packet")
    elif summary.first_sound_ms is None:
        found.append(f"only silence arrived ({summary.last.audio_in.packets} packets)")
    if video and summary.last.video_in.packets == 0:
        found.append("no picture arrived: not one RTP packet")
    elif video and summary.decoding and summary.first_frame_ms is None:
        found.append(f"no frame could be decoded ({summary.last.video_in.packets} packets)")
    if summary.bye_status is not None and summary.bye_status >= 300:
        found.append(f"the BYE got {summary.bye_status}")
    return found


def second_json(second: Second) -> str:
    return json.dumps({"event": "second", **asdict(second)})


def summary_json(summary: Summary, video: bool) -> str:
    wrong = problems(summary, video)
    return json.dumps(
        {"event": "summary", "verdict": "failed" if wrong else "ok", "problems": wrong, **asdict(summary)}
    )


def event_json(event: str, **values: Any) -> str:
    return json.dumps({"event": event, **values})


def second_text(second: Second, video: bool) -> str:
    """One line for people."""
    heard, seen = second.heard, second.seen
    tones = " ".join(f"{tone.hz:.0f}" for tone in heard.tones[:3])
    sound = (
        "silence"
        if heard.level_db <= SOUND_FLOOR_DB
        else f"{heard.level_db:.0f} dB {tones} Hz".replace("  Hz", "")
    )
    text = f"{second.t:>4} s  sound out {second.audio_out.packets} {_in(second.audio_in)}  {sound}"
    if video:
        size = f"{seen.width}x{seen.height} #{seen.colour}" if seen.width else "no picture"
        text += (
            f"  |  picture out {second.video_out.packets} {_in(second.video_in)}  {seen.frames} fps  {size}"
        )
    return text


def _in(flow: Flow) -> str:
    return f"in {flow.packets} lost {flow.lost} jitter {flow.jitter_ms:.0f} ms"


def summary_text(summary: Summary, video: bool) -> str:
    """A few lines for people, the verdict last."""
    lines = [
        f"Call of {summary.seconds:.1f} s, ended by {summary.ended_by}.",
        f"From INVITE to: answer {_ms(summary.connected_ms)}, first sound {_ms(summary.first_sound_ms)}"
        + (f", first decoded frame {_ms(summary.first_frame_ms)}." if video else "."),
    ]
    if video:
        seen = summary.last.seen
        lines.append(
            f"Picture: {summary.frames} frames, {seen.width}x{seen.height}, "
            f"longest gap {summary.longest_video_gap_ms} ms, lost packets {summary.last.video_in.lost}."
        )
    lines.append(
        f"Sound: longest gap {summary.longest_audio_gap_ms} ms, lost packets {summary.last.audio_in.lost}."
    )
    wrong = problems(summary, video)
    arrived = "sound and picture" if video else "sound"
    lines.append(f"FAILED: {'; '.join(wrong)}." if wrong else f"OK: {arrived} arrived.")
    return "\n".join(lines)


def _ms(value: int | None) -> str:
    return "never" if value is None else f"{value} ms"
