"""SIPp (Debian's sip-tester) as a caller that keeps its source port: for failover and for refused calls.

Each call: INVITE, ACK, wait, re-INVITE, wait, BYE. Requests in the dialog follow the route set (``rrs``),
from the same UDP port as the INVITE, and are retransmitted as RFC 3261 says. With ``media`` it sends PCMA all
the time, so that a gateway does not take it for dead.
"""

from __future__ import annotations

import csv
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_HEADERS = """\
      From: "SIPp" <sip:sipp@[local_ip]:[local_port]>;tag=[call_id]
      Call-ID: [call_id]
      Contact: <sip:sipp@[local_ip]:[local_port]>
      Max-Forwards: 70"""
_SDP = """\
      v=0
      o=sipp 1 {version} IN IP4 [local_ip]
      s=-
      c=IN IP4 [media_ip]
      t=0 0
      m=audio [{port}] RTP/AVP 8
      a=rtpmap:8 PCMA/8000
      a=ptime:20
      a=sendrecv"""
_MEDIA_ACTION = '<nop><action><exec rtp_stream="{path},-1,8"/></action></nop>'


@dataclass(frozen=True, slots=True)
class Caller:
    """Scripted calls from one port."""

    workdir: Path
    target: str
    """HOST:PORT that the INVITE goes to."""
    user: str
    """The room."""
    address: str
    """Own address."""
    port: int
    """Own UDP port, for all of the calls."""
    calls: int = 1
    per_s: float = 1.0
    """How many calls begin in a second."""
    before_reinvite_ms: int = 1000
    after_reinvite_ms: int = 1000
    reinvite: bool = True
    media: bool = False
    prefix: Sequence[str] = ()
    """A command that runs sipp elsewhere, such as ``docker run --rm ... smd/test``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the calls."""

    ok: bool
    """All of them went as scripted."""
    failed: int
    """How many did not."""
    messages: str
    """All SIP messages, with times."""
    output: str


def start(caller: Caller) -> subprocess.Popen[str]:
    """Begin to call; :func:`finish` waits for the end."""
    caller.workdir.mkdir(parents=True, exist_ok=True)
    (caller.workdir / "messages").unlink(missing_ok=True)
    scenario = caller.workdir / "scenario.xml"
    if caller.media:
        # A-law silence: one minute, repeated.
        (caller.workdir / "sound.alaw").write_bytes(b"\xd5" * 8000 * 60)
    scenario.write_text(scenario_text(caller))
    return subprocess.Popen(
        [
            *caller.prefix,
            *(
                "sipp",
                caller.target,
                "-sf",
                str(scenario),
                "-s",
                caller.user,
                "-nostdin",
            ),
            # SIPp's own Call-ID is the same in each container, where it always has the same process id.
            *("-cid_str", f"%u-{secrets.token_hex(8)}"),
            *("-m", str(caller.calls), "-l", str(caller.calls)),
            *("-r", "1", "-rp", str(round(1000 / caller.per_s))),
            *("-trace_stat", "-fd", "1", "-stf", str(caller.workdir / "statistics.csv")),
            *("-i", caller.address, "-p", str(caller.port), "-t", "u1", "-timeout", "120s"),
            *("-mi", caller.address, "-trace_msg", "-message_file", str(caller.workdir / "messages")),
        ],
        cwd=caller.workdir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(caller: Caller, process: subprocess.Popen[str], timeout: float = 60) -> Outcome:
    """Wait for the end of the last call. Raises subprocess.TimeoutExpired after ending SIPp."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Outcome(process.returncode == 0, _failed(caller), messages(caller), output)


def messages(caller: Caller) -> str:
    """All SIP messages until now, with times."""
    log = caller.workdir / "messages"
    return log.read_text(errors="replace") if log.exists() else ""


def _failed(caller: Caller) -> int:
    """How many calls did not succeed, by SIPp's own count; all of them when it left none."""
    try:
        with (caller.workdir / "statistics.csv").open(encoding="utf-8") as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
        return caller.calls - int(last["SuccessfulCall(C)"])
    except (OSError, IndexError, KeyError, ValueError):
        return caller.calls


def scenario_text(caller: Caller) -> str:
    """The SIPp scenario."""
    media = _MEDIA_ACTION.format(path=caller.workdir / "sound.alaw") if caller.media else ""
    port = "rtpstream_audio_port" if caller.media else "media_port"
    steps = [_invite(port), media, f'<pause milliseconds="{caller.before_reinvite_ms}"/>']
    if caller.reinvite:
        steps += [_reinvite(port), f'<pause milliseconds="{caller.after_reinvite_ms}"/>']
    steps.append(
        _request("BYE", "[next_url]", 3, to="[peer_tag_param]", routes=True)
        + '<recv response="100" optional="true"/><recv response="200"/>'
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="caller">\n'
        + "\n".join(steps)
        + "\n</scenario>\n"
    )


def _invite(port: str) -> str:
    return (
        _request("INVITE", "sip:[service]@[remote_ip]:[remote_port]", 1, to="", routes=False, port=port)
        + "".join(f'<recv response="{status}" optional="true"/>' for status in (100, 180, 183))
        + '<recv response="200" rrs="true"/>'
        + _request("ACK", "[next_url]", 1, to="[peer_tag_param]", routes=True, retransmit=False)
    )


def _reinvite(port: str) -> str:
    return (
        _request("INVITE", "[next_url]", 2, to="[peer_tag_param]", routes=True, port=port, version=2)
        + '<recv response="100" optional="true"/><recv response="200"/>'
        + _request("ACK", "[next_url]", 2, to="[peer_tag_param]", routes=True, retransmit=False)
    )


def _request(
    method: str,
    uri: str,
    sequence: int,
    *,
    to: str,
    routes: bool,
    port: str | None = None,
    version: int = 1,
    retransmit: bool = True,
) -> str:
    lines = [
        f"      {method} {uri} SIP/2.0",
        "      Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]",
        *(["      [routes]"] if routes else []),
        _HEADERS,
        f"      To: <sip:[service]@[remote_ip]:[remote_port]>{to}",
        f"      CSeq: {sequence} {method}",
    ]
    if port is not None:
        lines += ["      Content-Type: application/sdp", "      Content-Length: [len]", ""]
        lines.append(_SDP.format(port=port, version=version))
    else:
        lines += ["      Content-Length: 0", ""]
    again = ' retrans="500"' if retransmit else ""
    return f"<send{again}><![CDATA[\n\n" + "\n".join(lines) + "\n\n]]></send>"
