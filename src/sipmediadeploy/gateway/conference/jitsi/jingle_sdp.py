"""Jingle to SDP offer, and SDP answer to Jingle. Pure.

The media worker speaks SDP (RFC 8829); the focus speaks Jingle. The offer has one section a medium: which
source a stream belongs to is told by the bridge channel, and more SSRCs need no negotiation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sipmediadeploy.gateway.conference.jitsi import jingle as j
from sipmediadeploy.gateway.conference.jitsi.jingle import BadJingle, Content, PayloadType, Session, Transport
from sipmediadeploy.gateway.conference.jitsi.stanzas import FOCUS, element
from sipmediadeploy.gateway.media.webrtc_sdp import Section, parse_sdp

AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TRANSPORT_WIDE_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"


@dataclass(frozen=True, slots=True)
class Choices:
    """What of the focus's offer is used."""

    video_codecs: tuple[str, ...] = ("H264", "VP8")
    """Best first; what the media worker can show."""
    rtx: bool = True
    tcc: bool = False
    data: bool = True
    """The bridge channel as a data channel, where it is offered."""


def sdp_offer(session: Session, choices: Choices) -> str:
    """The offer for the media worker. It says ``setup:active``: then the worker is the DTLS server.

    (The bridge takes only ECDSA certificates of clients, and webrtcbin's are RSA.)

    Raises:
        BadJingle: there is no transport, or no Opus.
    """
    transport = session.transport
    if transport is None or not transport.fingerprint:
        raise BadJingle("the focus's offer has no transport")
    sections = [
        lines
        for content in session.contents
        if (lines := _section(content, transport, session.sctp_port, choices)) is not None
    ]
    if not any(lines[0].startswith("m=audio") for lines in sections):
        raise BadJingle("the focus's offer has no Opus")
    names = " ".join(x[6:] for lines in sections for x in lines if x.startswith("a=mid:"))
    head = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", f"a=group:BUNDLE {names}"]
    return "\r\n".join([*head, *(x for lines in sections for x in lines)]) + "\r\n"


def _section(
    content: Content, transport: Transport, sctp_port: int | None, choices: Choices
) -> list[str] | None:
    if content.media in ("audio", "video"):
        wanted = ("opus",) if content.media == "audio" else choices.video_codecs
        codecs = [c for name in wanted if (c := content.codec(name)) is not None]
        if not codecs:
            return None
        repairs = [r for c in codecs if (r := content.repair_of(c)) is not None] if choices.rtx else []
        numbers = " ".join(str(p.number) for p in (*codecs, *repairs))
        head = f"m={content.media} 9 UDP/TLS/RTP/SAVPF {numbers}"
        body = ["a=sendrecv", "a=rtcp-mux", "a=rtcp-rsize"]
        for payload_type in (*codecs, *repairs):
            body += _payload_lines(payload_type, choices)
        uris = {AUDIO_LEVEL, *([TRANSPORT_WIDE_CC] if choices.tcc else [])}
        body += [f"a=extmap:{number} {uri}" for number, uri in content.extensions if uri in uris]
    elif choices.data and sctp_port is not None:
        head = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
        body = [f"a=sctp-port:{sctp_port}", "a=max-message-size:262144"]
    else:
        return None
    return [
        head,
        "c=IN IP4 0.0.0.0",
        f"a=mid:{content.name}",
        f"a=ice-ufrag:{transport.ufrag}",
        f"a=ice-pwd:{transport.password}",
        f"a=fingerprint:{transport.hash} {transport.fingerprint}",
        "a=setup:active",
        *body,
        *(f"a={c.line()}" for c in transport.candidates if c.protocol == "udp"),
    ]


def _payload_lines(one: PayloadType, choices: Choices) -> Iterator[str]:
    channels = f"/{one.channels}" if one.channels > 1 else ""
    yield f"a=rtpmap:{one.number} {one.name}/{one.clock_rate}{channels}"
    # Jitsi writes a whole list into one parameter: profile-level-id = "42e01f;packetization-mode=1;".
    parameters = (f"{name}={value}".strip("=; ") for name, value in one.parameters)
    if text := ";".join(p for p in parameters if p):
        yield f"a=fmtp:{one.number} {text}"
    for feedback in one.feedback:
        if feedback != "goog-remb" and (choices.tcc or feedback != "transport-cc"):
            yield f"a=rtcp-fb:{one.number} {feedback}"


@dataclass(frozen=True, slots=True)
class Accepting:
    """Who accepts a session, and with what it begins."""

    responder: str
    endpoint: str
    video_type: str = "camera"
    last_n: int | None = 1


def session_accept(session: Session, answer: str, who: Accepting, action: str = "session-accept") -> Element:
    """``<jingle action='session-accept'>`` (or ``transport-accept``) from the worker's SDP answer.

    Raises:
        BadJingle: the answer has no credentials or no candidate.
    """
    sections = [s for s in parse_sdp(answer).media if not _dropped(s)]
    head = next((s for s in sections if _value(s, "ice-ufrag")), None)
    if head is None:
        raise BadJingle("the media worker's answer has no ICE credentials")
    candidates = list(dict.fromkeys(c for s in sections for c in _candidates(s)))
    contents = [_accepted(s, head, candidates, who) for s in sections]
    names = [element(j.GROUPING, "content", {"name": _value(s, "mid")}) for s in sections]
    attributes = {
        "action": action,
        "sid": session.sid,
        "initiator": session.initiator,
        "responder": who.responder,
    }
    bundle = element(j.GROUPING, "group", {"semantics": "BUNDLE"}, *names)
    return element(j.JINGLE, "jingle", attributes, *contents, bundle)


def _dropped(section: Section) -> bool:
    return not section.formats and section.kind != "application"


def _accepted(section: Section, head: Section, candidates: list[str], who: Accepting) -> Element:
    last_n = section.kind == "video" and who.last_n is not None
    hash_name, _, fingerprint = (_value(section, "fingerprint") or _value(head, "fingerprint")).partition(" ")
    setup = _value(section, "setup") or _value(head, "setup")
    return element(
        j.JINGLE,
        "content",
        {"creator": "responder", "name": _value(section, "mid"), "senders": "both"},
        _description(section, who),
        element(
            j.ICE,
            "transport",
            {"ufrag": _value(head, "ice-ufrag"), "pwd": _value(head, "ice-pwd")},
            element(j.ICE, "rtcp-mux") if section.kind != "application" else _sctp_map(section),
            element(j.DTLS, "fingerprint", {"hash": hash_name, "setup": setup}, text=fingerprint),
            *(_candidate(line, index) for index, line in enumerate(candidates)),
        ),
        element(j.COLIBRI2, "initial-last-n", {"value": who.last_n}) if last_n else None,
    )


def _sctp_map(section: Section) -> Element:
    attributes = {"number": _value(section, "sctp-port") or 5000, "protocol": "webrtc-datachannel"}
    return element(j.SCTP, "sctpmap", {**attributes, "streams": 1024})


def _description(section: Section, who: Accepting) -> Element:
    description = element(j.RTP, "description", {"media": section.kind})
    if section.kind == "application":
        return description
    description.extend(_payload_types(section))
    for line in section.lines:
        if line.startswith("a=extmap:"):
            number, uri = line[9:].split(" ")[:2]
            description.append(element(j.EXTENSION, "rtp-hdrext", {"id": number.split("/")[0], "uri": uri}))
    description.extend(_sources(section, who))
    description.append(element(j.RTP, "rtcp-mux"))
    return description


def _payload_types(section: Section) -> Iterator[Element]:
    for number in section.formats:
        name, rate, *channels = [*(section.attribute("rtpmap", number) or "/").split("/"), ""]
        made = element(
            j.RTP,
            "payload-type",
            {
                "id": number,
                "name": name,
                "clockrate": rate,
                "channels": channels[0] or 1,
            },
        )
        for pair in (section.attribute("fmtp", number) or "").split(";"):
            key, equals, value = pair.strip().partition("=")
            if equals and not key.startswith("sprop"):
                made.append(element(j.RTP, "parameter", {"name": key, "value": value}))
        start = f"a=rtcp-fb:{number} "
        for line in section.lines:
            if line.startswith(start):
                kind, _, subtype = line[len(start) :].partition(" ")
                made.append(element(j.FEEDBACK, "rtcp-fb", {"type": kind, "subtype": subtype or None}))
        yield made


def sent_ssrcs(section: Section) -> list[int]:
    """The SSRCs that a section sends: the stream's and its retransmission's, at most."""
    if "a=recvonly" in section.lines or "a=inactive" in section.lines:
        return []  # what is named there is the sender of RTCP only
    fid = next((x for x in section.lines if x.startswith("a=ssrc-group:FID ")), "")
    grouped = [int(x) for x in fid.split(" ")[1:] if x.isdigit()]
    return grouped[:2] or sorted(section.ssrcs())[:1]


def _sources(section: Section, who: Accepting) -> Iterator[Element]:
    ssrcs = sent_ssrcs(section)
    letter = section.kind[0]
    video_type = who.video_type if section.kind == "video" else None
    msid = f"{who.endpoint}-{section.kind}-0 {who.endpoint}-{section.kind}-0"
    for ssrc in ssrcs:
        yield element(
            j.SOURCE,
            "source",
            {"ssrc": ssrc, "name": f"{who.endpoint}-{letter}0", "videoType": video_type},
            element(j.SOURCE, "parameter", {"name": "msid", "value": msid}),
        )
    if len(ssrcs) == 2:
        members = (element(j.SOURCE, "source", {"ssrc": ssrc}) for ssrc in ssrcs)
        yield element(j.SOURCE, "ssrc-group", {"semantics": "FID"}, *members)


def _value(section: Section, name: str) -> str:
    start = f"a={name}:"
    return next((x[len(start) :] for x in section.lines if x.startswith(start)), "")


def _candidates(section: Section) -> Iterator[str]:
    return (x[len("a=candidate:") :] for x in section.lines if x.startswith("a=candidate:"))


def _candidate(line: str, index: int) -> Element:
    words = line.split(" ")
    related = dict(zip(words[8::2], words[9::2], strict=False))
    return element(
        j.ICE,
        "candidate",
        {
            "foundation": words[0],
            "component": words[1],
            "protocol": words[2].lower(),
            "priority": words[3],
            "ip": words[4],
            "port": words[5],
            "type": words[7],
            "generation": "0",
            "network": "0",
            "id": f"c{index}",
            "rel-addr": related.get("raddr"),
            "rel-port": related.get("rport"),
        },
    )


def session_terminate(
    sid: str, reason: str, *, bridge_session: str | None = None, restart: bool = False
) -> Element:
    """``<jingle action='session-terminate'>``; with ``restart`` the focus initiates anew."""
    again = element(FOCUS, "bridge-session", {"id": bridge_session, "restart": "true"}) if restart else None
    return element(
        j.JINGLE,
        "jingle",
        {"action": "session-terminate", "sid": sid},
        element(j.JINGLE, "reason", None, element(j.JINGLE, reason)),
        again,
    )
