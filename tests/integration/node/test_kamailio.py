"""Kamailio with the rendered configuration, and SIP peers around it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.node.roles.base import RoleError
from sipmediadeploy.node.roles.kamailio import rpc
from sipmediadeploy.node.roles.kamailio.gateways import dispatcher_list, silent_gateways
from sipmediadeploy.node.roles.kamailio.role import KamailioRole, render_config
from sipmediadeploy.protocol.agent import Gateway, Gateways
from sipmediadeploy.protocol.replica import KamailioService, ReplicaDocument
from sipmediadeploy.protocol.sip_options import ProbeError, sip_options
from tests.integration.node.sip_peer import (
    BUSY_S,
    Dialog,
    Message,
    Peer,
    callee_request,
    first_route,
    split_list,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kamailio") is None, reason="kamailio is not installed"),
]

SERVICE = IPv4Address("127.0.50.2")
PORT, GATEWAY_PORT = 25060, 25080
NETWORK = IPv4Network("127.0.50.0/24")
WORLD = (str(SERVICE), PORT)
A, B = ("127.0.50.64", 5060), ("127.0.50.65", 5060)
CALLER = "127.0.90.1"
"""Outside the stack's network: floods are counted."""


def service(**changes: object) -> KamailioService:
    values: dict[str, object] = {
        "service_address": SERVICE,
        "port": PORT,
        "gateway_port": GATEWAY_PORT,
        "domain": "sip.example.org",
        "network": NETWORK,
    }
    return KamailioService.model_validate(values | changes)


def document(service: KamailioService) -> ReplicaDocument:
    return ReplicaDocument(
        stack="t",
        name="kamailio-0",
        slot=0,
        address=IPv4Address("127.0.50.16"),
        agent_token="-",
        service=service,
    )


def gateways(*free: tuple[tuple[str, int], int]) -> Gateways:
    return Gateways(
        term=1,
        gateways=tuple(
            Gateway(name=f"g{i}", address=IPv4Address(address[0]), port=address[1], free=n)
            for i, (address, n) in enumerate(free)
        ),
    )


class Kamailio:
    """One running Kamailio."""

    def __init__(self, run: Path, listed: Gateways, config: KamailioService) -> None:
        run.mkdir(exist_ok=True)
        self.run = run
        (run / "kamailio.cfg").write_text(render_config(document(config), config, run))
        (run / "dispatcher.list").write_text(dispatcher_list(listed))
        with (run / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["kamailio", "-DD", "-E", "-m", "32", "-M", "4", "-f", run / "kamailio.cfg", "-Y", run],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                asyncio.run(sip_options(IPv4Address("127.0.0.1"), PORT, 0.5))
                return
            except ProbeError:
                assert self.process.poll() is None, (self.run / "log").read_text()
                time.sleep(0.05)
        raise TimeoutError((self.run / "log").read_text())

    def list_gateways(self, listed: Gateways) -> None:
        (self.run / "dispatcher.list").write_text(dispatcher_list(listed, self.silent()))
        asyncio.run(rpc.call(self.run / "rpc.sock", "dispatcher.reload"))

    def silent(self) -> frozenset[str]:
        return silent_gateways(asyncio.run(rpc.call(self.run / "rpc.sock", "dispatcher.list")))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # the test has killed it
            os.killpg(self.process.pid, 9)
        self.process.wait()

    def log(self) -> str:
        return (self.run / "log").read_text()


@pytest.fixture
def kamailio(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kamailio]:
    changes, listed = getattr(request, "param", ({}, gateways((A, 3))))
    running = Kamailio(tmp_path / "k", listed, service(**changes))
    yield running
    running.kill()


@pytest.fixture
def caller() -> Iterator[Peer]:
    with Peer((CALLER, 0)) as peer:
        yield peer


@pytest.fixture
def a() -> Iterator[Peer]:
    with Peer(A) as peer:
        yield peer


@pytest.fixture
def b() -> Iterator[Peer]:
    with Peer(B) as peer:
        yield peer


def call(caller: Peer, **more: object) -> Dialog:
    return Dialog(caller, WORLD, "sip:demo@sip.example.org", **more)  # type: ignore[arg-type]


def establish(dialog: Dialog, gateway: Peer) -> Message:
    """Have the call answered; returns the INVITE as the gateway saw it."""
    dialog.send("INVITE")
    invite = gateway.request("INVITE")
    gateway.respond(invite, "200 OK")
    dialog.established_by(dialog.peer.final())
    gateway.request("ACK")
    return invite


CHOICES: dict[str, tuple[object, ...]] = {
    "advertise": (None, "198.51.100.7"),
    "trusted": ((), ("10.0.0.0/8",), ("10.0.0.0/8", "192.168.4.0/24")),
    "allow": ((), ("172.16.0.0/12",), ("172.16.0.0/12", "198.51.100.9/32")),
    "domain": ("sip.example.org", "192.0.2.1", "Localhost"),
}


@pytest.mark.parametrize(
    "changes",
    [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())],
    ids=str,
)
def test_every_combination_of_options_is_a_valid_configuration(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    config = service(**changes)
    (tmp_path / "kamailio.cfg").write_text(render_config(document(config), config, tmp_path))
    (tmp_path / "dispatcher.list").write_text(dispatcher_list(gateways()))
    checked = subprocess.run(
        ["kamailio", "-c", "-f", tmp_path / "kamailio.cfg", "-Y", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_call_reaches_a_gateway_with_both_sockets_in_its_route_set(
    kamailio: Kamailio, caller: Peer, a: Peer
) -> None:
    dialog = call(caller)
    dialog.send("INVITE")
    assert caller.receive(lambda m: m.status == 100)
    invite = a.request("INVITE")
    routes = split_list(invite.all("Record-Route"))
    assert [r.split(";")[0].strip("<") for r in routes] == [
        f"sip:{SERVICE}:{GATEWAY_PORT}",
        f"sip:{SERVICE}:{PORT}",
    ]
    assert invite.source == (str(SERVICE), GATEWAY_PORT)
    a.respond(invite, "200 OK")
    dialog.established_by(caller.final())
    assert a.request("ACK").target == f"sip:{a.host}"


@pytest.mark.parametrize("kamailio", [({"advertise": "198.51.100.7"}, gateways((A, 3)))], indirect=True)
def test_the_world_is_told_the_published_address_and_the_gateway_is_not(
    kamailio: Kamailio, caller: Peer, a: Peer
) -> None:
    call(caller).send("INVITE")
    invite = a.request("INVITE")
    assert f"sip:198.51.100.7:{PORT}" in invite.text
    assert first_route(invite) == (str(SERVICE), GATEWAY_PORT)
    assert invite.all("Via")[0].startswith(f"SIP/2.0/UDP {SERVICE}:{GATEWAY_PORT}")


@pytest.mark.parametrize(
    "kamailio", [({"advertise": "198.51.100.7"}, gateways((A, 3))), ({}, gateways((A, 3)))], indirect=True
)
def test_a_dialog_goes_on_through_another_kamailio_that_has_never_heard_of_it(
    kamailio: Kamailio, tmp_path: Path, caller: Peer, a: Peer, request: pytest.FixtureRequest
) -> None:
    changes, _ = request.node.callspec.params["kamailio"]
    dialog = call(caller)
    invite = establish(dialog, a)
    kamailio.kill()
    successor = Kamailio(tmp_path / "successor", gateways(), service(**changes))
    try:
        for method in ("INVITE", "INFO", "UPDATE", "PRACK"):
            dialog.send(method)
            a.respond(a.request(method), "200 OK")
            assert caller.final().status == 200
            if method == "INVITE":
                dialog.send("ACK", cseq=dialog.cseq)
                a.request("ACK")
        for cseq, method in enumerate(("INFO", "INVITE", "BYE"), start=10):
            a.send(callee_request(invite, a, method, cseq), first_route(invite))
            request_ = caller.request(method)
            assert request_.source == WORLD, "a NAT lets only the same 5-tuple in"
            caller.respond(request_, "200 OK", tag="unused")
            assert a.final().status == 200
    finally:
        successor.kill()


def test_a_call_over_tcp_gets_requests_on_its_own_connection_and_an_error_is_told_once_that_is_gone(
    kamailio: Kamailio, tmp_path: Path, a: Peer
) -> None:
    with socket.create_connection(WORLD, 3, source_address=(CALLER, 0)) as tcp:
        host, port = tcp.getsockname()
        invite_text = (
            "INVITE sip:demo@sip.example.org SIP/2.0\r\n"
            "Via: SIP/2.0/TCP 192.168.77.7:5060;branch=z9hG4bKt;rport\r\n"
            "Max-Forwards: 70\r\nFrom: <sip:caller@example.net>;tag=t\r\nTo: <sip:demo@sip.example.org>\r\n"
            "Call-ID: over-tcp\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@192.168.77.7:5060;transport=tcp>\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        tcp.sendall(invite_text.encode())
        invite = a.request("INVITE")
        assert f"alias={host}~{port}~2" in invite.one("Contact")
        a.respond(invite, "200 OK")
        ok = b""
        while b"SIP/2.0 200" not in ok:
            ok += tcp.recv(65535)
        a.send(callee_request(invite, a, "BYE"), first_route(invite))
        seen = b""
        while b"BYE sip:" not in seen:
            seen += tcp.recv(65535)
    kamailio.kill()
    successor = Kamailio(tmp_path / "successor", gateways(), service())
    try:
        a.send(callee_request(invite, a, "INFO", cseq=2), first_route(invite))
        assert a.receive(lambda m: m.status >= 200 and "INFO" in m.one("CSeq")).status >= 400
    finally:
        successor.kill()


def test_a_reply_that_arrives_after_a_failover_still_reaches_the_caller(
    kamailio: Kamailio, tmp_path: Path, caller: Peer, a: Peer
) -> None:
    dialog = call(caller)
    establish(dialog, a)
    dialog.send("INFO")
    info = a.request("INFO")
    kamailio.kill()
    successor = Kamailio(tmp_path / "successor", gateways(), service())
    try:
        a.respond(info, "200 OK")
        assert caller.final().status == 200
    finally:
        successor.kill()


@pytest.mark.parametrize("kamailio", [({}, gateways((A, 1), (B, 1)))], indirect=True)
@pytest.mark.parametrize("status", ["486 Busy Here", "503 Service Unavailable"])
def test_the_next_gateway_is_tried_when_one_is_full(
    kamailio: Kamailio, caller: Peer, a: Peer, b: Peer, status: str
) -> None:
    dialog = call(caller)
    dialog.send("INVITE")
    first, second = answering_order(a, b)
    first[0].respond(first[1], status)
    first[0].request("ACK")
    invite = second.request("INVITE")
    second.respond(invite, "200 OK")
    dialog.established_by(caller.final())
    assert dialog.target == f"sip:{second.host}"
    second.request("ACK")


def answering_order(a: Peer, b: Peer) -> tuple[tuple[Peer, Message], Peer]:
    """Who got the INVITE first, with it, and the other."""
    deadline = time.monotonic() + BUSY_S
    while True:
        for one, other in ((a, b), (b, a)):
            with contextlib.suppress(TimeoutError):
                return (one, one.request("INVITE", 0.1)), other
        assert time.monotonic() < deadline, "neither gateway got the INVITE"


@pytest.mark.parametrize("kamailio", [({}, gateways((A, 1), (B, 100)))], indirect=True)
def test_a_silent_gateway_costs_a_caller_little_and_the_next_caller_nothing(
    kamailio: Kamailio, caller: Peer, a: Peer
) -> None:
    with Peer(B) as silent:  # the likely choice
        started = time.monotonic()
        dialog = call(caller)
        dialog.send("INVITE")
        a.respond(a.request("INVITE", BUSY_S), "200 OK")
        assert caller.final().status == 200
        print(f"answered by the other one after {time.monotonic() - started:.2f} s")
        wait_for(lambda: kamailio.silent() == {f"sip:{B[0]}:{B[1]}"})
        kamailio.list_gateways(gateways((A, 2), (B, 100)))
        following = call(caller)
        following.send("INVITE")
        assert a.request("INVITE", BUSY_S).one("Call-ID") == following.call_id
        with pytest.raises(TimeoutError):  # a new list must not forget who is silent
            silent.receive(lambda m: m.method == "INVITE" and m.one("Call-ID") == following.call_id, 0.2)


@pytest.mark.parametrize("kamailio", [({}, gateways((B, 1)))], indirect=True)
def test_a_silent_gateway_that_answers_again_gets_calls_again(kamailio: Kamailio, caller: Peer) -> None:
    wait_for(lambda: bool(kamailio.silent()))
    with Peer(B) as b:
        deadline = time.monotonic() + BUSY_S
        while kamailio.silent() and time.monotonic() < deadline:
            try:
                b.request("INVITE", 0.1)  # answers pings meanwhile
            except TimeoutError:
                pass
        call(caller).send("INVITE")
        b.request("INVITE")


@pytest.mark.parametrize("kamailio", [({}, gateways((B, 1)))], indirect=True)
def test_when_no_gateway_answers_pings_a_call_is_tried_all_the_same(kamailio: Kamailio, caller: Peer) -> None:
    wait_for(lambda: bool(kamailio.silent()))
    with Peer(B) as b:  # it answers no ping before it has the call
        call(caller).send("INVITE")
        b.respond(b.request("INVITE"), "200 OK")
        assert caller.final().status == 200


@pytest.mark.parametrize("kamailio", [({}, gateways((A, 0)))], indirect=True)
def test_without_a_free_gateway_the_caller_is_told_when_to_try_again(
    kamailio: Kamailio, caller: Peer, a: Peer
) -> None:
    call(caller).send("INVITE")
    refused = caller.final()
    assert refused.status == 503
    assert refused.one("Retry-After") == "10"


def tell(role: KamailioRole, listed: Gateways, answering: Peer) -> None:
    """Set the list while the gateway goes on answering pings; one that goes unanswered makes it silent."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, role.set_gateways(listed))
        while not done.done():
            with contextlib.suppress(TimeoutError):
                answering.request("nothing", 0.05)
        done.result()


@pytest.mark.parametrize("kamailio", [({}, gateways())], indirect=True)
def test_the_gateways_can_go_from_none_to_some_and_back(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    config = service()
    role = KamailioRole(document(config), config, "lo", gateways())
    role.directory = kamailio.run
    tell(role, gateways((A, 2)), a)
    call(caller).send("INVITE")
    a.respond(a.request("INVITE"), "404 No such room")
    assert caller.final().status == 404
    tell(role, gateways(), a)
    refused = call(caller)
    refused.send("INVITE")
    answer = caller.receive(lambda m: m.status >= 200 and m.one("Call-ID") == refused.call_id)
    assert answer.status == 503
    tell(role, gateways((A, 1)), a)
    call(caller).send("INVITE")
    assert a.request("INVITE")
    for free in (2, 3, 4):
        tell(role, gateways((A, free)), a)


def test_a_list_that_kamailio_did_not_take_is_an_error_and_is_tried_again(
    kamailio: Kamailio, tmp_path: Path, caller: Peer, a: Peer
) -> None:
    config = service()
    role = KamailioRole(document(config), config, "lo", gateways())
    role.directory = tmp_path / "nothing-runs-here"
    with pytest.raises(RoleError, match="did not take the gateway list"):
        asyncio.run(role.set_gateways(gateways((A, 2))))
    role.directory = kamailio.run
    kamailio.list_gateways(gateways())
    tell(role, gateways((A, 2)), a)
    call(caller).send("INVITE")
    assert a.request("INVITE")


def test_a_full_gateway_keeps_its_dialogs(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    dialog = call(caller)
    establish(dialog, a)
    kamailio.list_gateways(gateways((A, 0)))
    dialog.send("BYE")
    a.request("BYE")


def test_the_gateways_refusal_of_a_room_reaches_the_caller(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    call(caller).send("INVITE")
    a.respond(a.request("INVITE"), "404 No such room")
    assert caller.final().status == 404


def test_a_caller_can_cancel(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    dialog = call(caller)
    branch = dialog.send("INVITE")
    invite = a.request("INVITE")
    a.respond(invite, "180 Ringing")
    caller.receive(lambda m: m.status == 180)
    cancel = (
        f"CANCEL {dialog.uri} SIP/2.0\r\nVia: SIP/2.0/UDP {dialog.contact};branch={branch};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:caller@example.net>;tag={dialog.call_id[:6]}\r\n"
        f"To: <{dialog.uri}>\r\nCall-ID: {dialog.call_id}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n"
    )
    caller.send(cancel, WORLD)
    a.respond(a.request("CANCEL"), "200 OK")
    a.respond(invite, "487 Request Terminated")
    assert caller.receive(lambda m: m.status == 487)


@pytest.mark.parametrize(
    "target",
    ["sip:victim@198.51.100.1", "sip:1234@127.0.90.9:5060", "sip:x@127.0.50.64:22", "sip:x@127.0.50.2:25060"],
)
def test_it_relays_nothing_but_to_gateways(kamailio: Kamailio, caller: Peer, a: Peer, target: str) -> None:
    dialog = call(caller)
    establish(dialog, a)
    dialog.target = target
    dialog.send("INFO")
    assert caller.final().status == 403


def test_a_route_beyond_this_proxy_is_refused(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    dialog = call(caller)
    establish(dialog, a)
    dialog.route.append("<sip:198.51.100.1;lr>")
    dialog.send("INFO")
    assert caller.final().status == 403
    preloaded = call(caller, route=[f"<sip:{SERVICE}:{PORT};lr>", "<sip:198.51.100.1;lr>"])
    preloaded.send("INVITE")
    assert caller.final().status == 403


def test_an_unknown_domain_and_a_missing_room_are_refused(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    for uri in ("sip:demo@elsewhere.example", "sip:sip.example.org"):
        Dialog(caller, WORLD, uri).send("INVITE")
        assert caller.final().status == 404


@pytest.mark.parametrize(
    "uri", [f"sip:demo@{SERVICE}", f"sip:demo@{SERVICE}:{PORT}", "sip:demo@SIP.example.ORG"]
)
def test_the_domain_and_the_service_address_are_both_served(
    kamailio: Kamailio, caller: Peer, a: Peer, uri: str
) -> None:
    Dialog(caller, WORLD, uri).send("INVITE")
    assert "demo" in a.request("INVITE").target


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("REGISTER", 405), ("MESSAGE", 405), ("BYE", 405), ("FANTASY", 501)],
)
def test_other_requests_outside_a_dialog_are_answered(
    kamailio: Kamailio, caller: Peer, method: str, status: int
) -> None:
    call(caller).send(method)
    answer = caller.final()
    assert answer.status == status
    assert "INVITE" in answer.one("Allow") or status == 501


@pytest.mark.parametrize("kamailio", [({"allow": ("127.0.91.0/24",)}, gateways((A, 3)))], indirect=True)
def test_only_allowed_networks_may_call(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    call(caller).send("INVITE")
    assert caller.final().status == 403
    with Peer(("127.0.91.5", 0)) as allowed:
        call(allowed).send("INVITE")
        assert a.request("INVITE")


def test_a_scanner_hears_nothing(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    call(caller, agent="friendly-scanner").send("OPTIONS")
    call(caller).send("OPTIONS")
    assert caller.final().status == 200
    with pytest.raises(TimeoutError):
        caller.final(0.3)


def test_a_flood_is_cut_off_and_others_are_not(kamailio: Kamailio, caller: Peer) -> None:
    for _ in range(300):
        call(caller).send("OPTIONS")
    wait_for(lambda: "event=source_banned" in kamailio.log())
    drain(caller)
    call(caller).send("OPTIONS")
    with pytest.raises(TimeoutError):
        caller.final(0.3)
    with Peer(("127.0.92.1", 0)) as other:
        call(other).send("OPTIONS")
        assert other.final().status == 200


@pytest.mark.parametrize("kamailio", [({"trusted": (f"{CALLER}/32",)}, gateways((A, 3)))], indirect=True)
def test_a_trusted_network_may_send_as_much_as_it_likes(kamailio: Kamailio, caller: Peer) -> None:
    for _ in range(300):
        call(caller, agent="sipvicious").send("OPTIONS")
        assert caller.final().status == 200


def test_malformed_and_endless_requests_do_no_harm(kamailio: Kamailio, caller: Peer) -> None:
    caller.send("INVITE sip:demo@sip.example.org SIP/2.0\r\nVia: nonsense\r\n\r\n", WORLD)
    caller.send("\r\n\r\n", WORLD)
    caller.send("\x00" * 400, WORLD)
    looping = call(caller, headers=())
    text = "OPTIONS sip:demo@sip.example.org SIP/2.0\r\nMax-Forwards: 0\r\n"
    caller.send(
        text + f"Via: SIP/2.0/UDP {caller.host};branch=z9hG4bKloop;rport\r\nFrom: <sip:a@b>;tag=1\r\n"
        "To: <sip:demo@sip.example.org>\r\nCall-ID: loop\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        WORLD,
    )
    assert caller.final().status == 483
    looping.send("OPTIONS")
    assert caller.final().status == 200


def test_strangers_get_nothing_from_the_gateways_socket(kamailio: Kamailio, caller: Peer, a: Peer) -> None:
    Dialog(caller, (str(SERVICE), GATEWAY_PORT), "sip:demo@sip.example.org").send("INVITE")
    with pytest.raises(TimeoutError):
        caller.final(0.3)
    Dialog(a, (str(SERVICE), GATEWAY_PORT), "sip:victim@198.51.100.1").send("INVITE")
    assert a.final().status == 403


def drain(peer: Peer) -> None:
    while True:
        try:
            peer.final(0.2)
        except TimeoutError:
            return


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
