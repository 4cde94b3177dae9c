"""What ``smd doctor`` says of DNS, of the conference platform and of a machine with Docker."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import cast

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sipmediadeploy.cli import doctor_conference, doctor_dns
from sipmediadeploy.cli.doctor import line, pool_needs, summary
from sipmediadeploy.cli.doctor_dns import Records, Target
from sipmediadeploy.providers.docker.preconditions import Host, judge
from sipmediadeploy.providers.findings import Finding, Level
from sipmediadeploy.stack import Conference, Role, Stack, parse_stack
from tests.unit.test_cli import smd

DOMAIN = "sip.example-customer.net"
HERE = IPv4Address("198.51.100.7")
GOOD = Records(
    {"_sip._udp": (Target("edge." + DOMAIN, 5060),), "_sip._tcp": (Target("edge." + DOMAIN, 5060),)},
    {DOMAIN: (), "edge." + DOMAIN: (str(HERE),)},
)


def said(records: Records | str, here: IPv4Address | None = HERE, port: int = 5060) -> str:
    """All that is not well, as text; nothing if all is."""
    found = doctor_dns.findings(DOMAIN, port, here, records)
    return "\n".join(line(one, 0) for one in found if one.level is not Level.OK)


def test_a_domain_that_leads_here_is_well() -> None:
    assert said(GOOD) == ""
    assert said(Records({}, {DOMAIN: (str(HERE),)})) == ""


@pytest.mark.parametrize(
    ("records", "here", "port", "words"),
    [
        (Records({}, {DOMAIN: ()}), HERE, 5060, ["neither an SRV nor an A record", f"A record is {HERE}"]),
        (Records({}, {DOMAIN: ("192.0.2.1",)}), HERE, 5060, ["leads to 192.0.2.1, not to 198.51.100.7"]),
        (Records({}, {DOMAIN: (str(HERE),)}), HERE, 5070, ["port 5070 is not 5060", "to port 5070"]),
        (GOOD, HERE, 5070, ["the stack's port is 5070, not 5060"]),
        (Records({**GOOD.services, "_sip._tcp": ()}, GOOD.addresses), HERE, 5060, ["_sip._tcp", "TCP only"]),
        (Records(GOOD.services, {}), HERE, 5060, ["has no address"]),
        (
            Records(GOOD.services, {"edge." + DOMAIN: (str(HERE), "2001:db8::1")}),
            HERE,
            5060,
            ["leads to 2001:db8::1"],
        ),
        (GOOD, None, 5060, ["where the stack will be is not known yet", "floating IP of kamailio"]),
        ("no answer from DNS: timed out", HERE, 5060, ["unknown", "timed out"]),
    ],
)
def test_a_domain_that_leads_elsewhere_or_nowhere_is_told_what_to_make(
    records: Records | str, here: IPv4Address | None, port: int, words: list[str]
) -> None:
    for word in words:
        assert word in said(records, here, port)


@pytest.mark.parametrize("name", ["sip.example.org", "sip.test", "demo", "a.invalid", "EXAMPLE.COM"])
def test_a_made_up_domain_is_called_so(name: str) -> None:
    (finding,) = doctor_dns.findings(name, 5060, HERE, "not looked up")
    assert (finding.level, "made up" in finding.found) == (Level.WARNING, True)


class _Resolver(asyncio.DatagramProtocol):
    """Answers with the records of one zone."""

    def __init__(self, records: list[tuple[str, str, str]]) -> None:
        self.records = [dns.rrset.from_text(name, 60, "IN", kind, rest) for name, kind, rest in records]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        (asked,) = question.question
        answer.answer = [one for one in self.records if (one.name, one.rdtype) == (asked.name, asked.rdtype)]
        if asked.name not in [one.name for one in self.records]:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


async def test_records_are_read_as_a_server_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = [
        (f"_sip._udp.{DOMAIN}.", "SRV", f"10 5 5062 edge.{DOMAIN}."),
        (f"_sip._tcp.{DOMAIN}.", "SRV", "0 0 0 ."),  # no such service (RFC 2782)
        (f"edge.{DOMAIN}.", "A", str(HERE)),
    ]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Resolver(zone), ("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.asyncresolver, "Resolver", lambda: resolver)
    try:
        found = await doctor_dns.look_up(DOMAIN)
    finally:
        transport.close()
    assert isinstance(found, Records)
    assert found.services == {"_sip._udp": (Target(f"edge.{DOMAIN}", 5062),), "_sip._tcp": ()}
    assert found.addresses == {DOMAIN: (), f"edge.{DOMAIN}": (str(HERE),)}


async def test_without_an_answer_from_dns_that_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(asyncio.DatagramProtocol):
        """Takes questions."""

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Silent, ("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.asyncresolver, "Resolver", lambda: resolver)
    monkeypatch.setattr(doctor_dns, "LIMIT_S", 0.2)
    try:
        found = await doctor_dns.look_up(DOMAIN)
    finally:
        transport.close()
    assert isinstance(found, str)
    assert found.startswith("no answer from DNS")


@pytest.fixture
async def platform() -> AsyncIterator[str]:
    """A web server with a page and a WebSocket of Janus; its address."""

    async def janus(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("janus-protocol",))
        await socket.prepare(request)
        await socket.close()
        return socket

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="a page")

    app = web.Application()
    app.add_routes([web.get("/page", page), web.get("/janus", janus)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("platform_name", "url", "level", "word"),
    [
        ("jitsi", "http://{}/page", Level.OK, "answers (200)"),
        ("jitsi", "http://{}/other", Level.PROBLEM, "answers with 404"),
        ("janus", "ws://{}/janus", Level.OK, "answers (101)"),
        ("janus", "ws://{}/page", Level.PROBLEM, "gives no WebSocket"),
        ("jitsi", "http://127.0.0.1:1/", Level.WARNING, "can't be reached"),
        ("jitsi", "https://{}/page", Level.PROBLEM, "speaks no TLS"),
    ],
)
async def test_the_conference_is_asked_as_a_gateway_asks_it(
    platform: str, platform_name: str, url: str, level: Level, word: str
) -> None:
    settings = Conference.model_validate({"platform": platform_name, "url": url.format(platform)})
    finding = await doctor_conference.look(settings)
    assert finding.level is level, finding
    assert word in finding.found


async def test_a_certificate_is_accepted_only_by_an_authority_that_is_known(tmp_path: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    own = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = builder.add_extension(own, critical=True).sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "both.pem").write_bytes(private + pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "both.pem")
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        unknown = await doctor_conference.look(Conference(platform="jitsi", url=url))
        known = await doctor_conference.look(Conference(platform="jitsi", url=url, ca=pem.decode()))
    finally:
        server.close()
    assert unknown.level is Level.PROBLEM
    assert "its certificate is not accepted" in unknown.found
    assert known.level is Level.OK, known


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


def test_a_platform_that_does_not_answer_may_be_out_of_reach_from_here_only() -> None:
    finding = doctor_conference.judge("https://meet.test", TimeoutError())
    assert (finding.level, finding.found[-17:]) == (Level.WARNING, "no answer in time")


def test_the_demo_conference_needs_nothing() -> None:
    assert asyncio.run(doctor_conference.look(Conference())).level is Level.OK


NEEDS = pool_needs(Stack(name="demo", domain="sip.test"))


def test_a_pool_needs_its_most_and_one_that_is_replaced() -> None:
    stack = parse_stack("name: demo\ndomain: a.b\npools: {gateway: {max: 9}, scaler: {replicas: 1}}\n")
    assert {need.role: need.replicas for need in pool_needs(stack)} == {
        Role.KAMAILIO: 3,
        Role.COTURN: 3,
        Role.GATEWAY: 10,
        Role.SCALER: 2,
        Role.CONFERENCE_DEMO: 2,
    }


@pytest.mark.parametrize(
    ("host", "what", "level"),
    [
        (Host("27", 2, 32_000, 50.0), "memory", Level.OK),
        (Host("27", 2, 4_000, 50.0), "memory", Level.WARNING),
        (Host("27", 1, 32_000, 50.0), "CPUs", Level.PROBLEM),
        (Host("27", 2, 32_000, 1.0), "disk", Level.PROBLEM),
        (Host("27", 2, 32_000, 3.0), "disk", Level.WARNING),
        (Host("27", 2, 32_000, None), "disk", Level.UNKNOWN),
    ],
)
def test_a_machine_is_compared_with_what_the_pools_may_use(host: Host, what: str, level: Level) -> None:
    found = judge(host, NEEDS)
    assert {one.level for one in found if one.what == what} == {level}
    assert {one.level for one in found if one.what != what} == {Level.OK}


def test_the_summary_counts_what_is_in_the_way() -> None:
    one = Finding(Level.PROBLEM, "image", "is missing", "build it")
    assert summary("demo", [one]) == "1 thing is in the way of the stack demo."
    assert line(one, 9).splitlines()[1].strip() == "→ build it"
    warned = Finding(Level.WARNING, "a", "b")
    assert summary("demo", [warned]) == "Nothing is in the way of the stack demo (warnings: 1)."


def test_without_an_engine_the_rest_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text("name: demo\ndomain: sip.test\npublish: 192.0.2.250\n")
    result = smd(tmp_path, "doctor", "--json")
    assert result.returncode == 1, result
    assert result.stderr == ""
    levels = {one["what"]: one["level"] for one in json.loads(result.stdout)["findings"]}
    assert levels == {
        "engine": "problem",
        "ports of 192.0.2.250": "problem",
        "conference": "ok",
        "DNS of sip.test": "warning",
    }
