"""A SIP endpoint in a few lines: raw messages over UDP, so that a test sees all headers and addresses."""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Address = tuple[str, int]
BUSY_S = 15.0
"""So long a peer is waited for that has much else to do."""


@dataclass(frozen=True, slots=True)
class Message:
    """One received message."""

    text: str
    source: Address

    @property
    def first(self) -> str:
        return self.text.split("\r\n", 1)[0]

    @property
    def method(self) -> str:
        """The method of a request; empty for a response."""
        return "" if self.first.startswith("SIP/2.0 ") else self.first.split(" ", 1)[0]

    @property
    def status(self) -> int:
        """The status of a response; 0 for a request."""
        return int(self.first.split(" ")[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    def all(self, name: str) -> list[str]:
        return re.findall(rf"(?im)^{re.escape(name)}:\s*(.*?)\r?$", self.text)

    def one(self, name: str) -> str:
        return self.all(name)[0]


@dataclass
class Peer:
    """A UDP socket that speaks SIP."""

    address: Address
    sock: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(self.address)
        self.address = self.sock.getsockname()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def send(self, text: str, to: Address) -> None:
        self.sock.sendto(text.encode(), to)

    def receive(self, wanted: Callable[[Message], bool], timeout_s: float = BUSY_S) -> Message:
        """The next message that is wanted; pings are answered, everything else is passed over."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                data, source = self.sock.recvfrom(65535)
            except TimeoutError:
                break
            message = Message(data.decode(), source)
            if message.method == "OPTIONS":
                self.respond(message, "200 OK")
            elif wanted(message):
                return message
        raise TimeoutError(f"{self.host}: nothing wanted came within {timeout_s} s")

    def request(self, method: str, timeout_s: float = BUSY_S) -> Message:
        return self.receive(lambda m: m.method == method, timeout_s)

    def final(self, timeout_s: float = BUSY_S) -> Message:
        return self.receive(lambda m: m.status >= 200, timeout_s)

    def respond(self, request: Message, status: str, tag: str = "gw") -> None:
        """Answer with the request's Via, Record-Route, From, Call-ID and CSeq."""
        to = request.one("To")
        lines = [f"SIP/2.0 {status}"]
        lines += [f"Via: {via}" for via in request.all("Via")]
        lines += [f"Record-Route: {rr}" for rr in request.all("Record-Route")]
        lines += [f"From: {request.one('From')}", f"To: {to if 'tag=' in to else f'{to};tag={tag}'}"]
        lines += [f"Call-ID: {request.one('Call-ID')}", f"CSeq: {request.one('CSeq')}"]
        lines += [f"Contact: <sip:{self.host}>", "Content-Length: 0", "", ""]
        self.send("\r\n".join(lines), request.source)


@dataclass
class Dialog:
    """The caller's side of one dialog. ``contact`` is what a terminal behind a NAT believes itself to be."""

    peer: Peer
    proxy: Address
    uri: str
    contact: str = "192.168.77.7:5060"
    agent: str = "Test"
    headers: tuple[str, ...] = ()
    call_id: str = field(default_factory=lambda: secrets.token_hex(8))
    cseq: int = 0
    remote_tag: str = ""
    route: list[str] = field(default_factory=list)
    target: str = ""

    def send(self, method: str, *, cseq: int | None = None, extra: tuple[str, ...] = ()) -> str:
        """Send a request within the dialog, or the first one of it; returns its branch."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        branch = f"z9hG4bK{secrets.token_hex(6)}"
        to = f"<{self.uri}>" + (f";tag={self.remote_tag}" if self.remote_tag else "")
        lines = [
            f"{method} {self.target or self.uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.contact};branch={branch};rport",
            "Max-Forwards: 70",
            *(f"Route: {route}" for route in self.route),
            f"From: <sip:caller@example.net>;tag={self.call_id[:6]}",
            f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:caller@{self.contact}>",
            f"User-Agent: {self.agent}",
            *self.headers,
            *extra,
            "Content-Length: 0",
        ]
        self.peer.send("\r\n".join([*lines, "", ""]), self.proxy)
        return branch

    def established_by(self, ok: Message) -> None:
        """Take the route set and the target of a 200 and send the ACK."""
        self.remote_tag = ok.one("To").split("tag=")[1]
        self.route = list(reversed(split_list(ok.all("Record-Route"))))
        self.target = ok.one("Contact").strip("<>")
        self.send("ACK", cseq=self.cseq)


def split_list(values: list[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",")]


def callee_request(invite: Message, peer: Peer, method: str, cseq: int = 1, tag: str = "gw") -> str:
    """A request of the called side's within the dialog that ``invite`` made."""
    route = split_list(invite.all("Record-Route"))
    target = invite.one("Contact").split("<")[1].split(">")[0]
    lines = [
        f"{method} {target} SIP/2.0",
        f"Via: SIP/2.0/UDP {peer.host};branch=z9hG4bK{secrets.token_hex(6)}",
        "Max-Forwards: 70",
        *(f"Route: {item}" for item in route),
        f"From: {invite.one('To')};tag={tag}",
        f"To: {invite.one('From')}",
        f"Call-ID: {invite.one('Call-ID')}",
        f"CSeq: {cseq} {method}",
        f"Contact: <sip:{peer.host}>",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""])


def first_route(invite: Message) -> Address:
    """Where a callee sends its requests: the first Record-Route."""
    found = re.search(r"<sip:([\d.]+):(\d+)", split_list(invite.all("Record-Route"))[0])
    assert found
    return found.group(1), int(found.group(2))
