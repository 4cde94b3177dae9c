"""Where the domain's DNS leads terminals, compared with where the stack is (RFC 3263, RFC 2782)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from sipmediadeploy.providers.findings import Finding, listed, ok, unknown, warning

LIMIT_S = 5.0
"""For all answers to one question."""
_DEFAULT_PORT = 5060
_MADE_UP = ("example", "example.org", "example.com", "example.net", "test", "invalid", "localhost", "local")
"""Names that nobody can register (RFC 2606, RFC 6761, RFC 6762)."""
_SERVICES = ("_sip._udp", "_sip._tcp")


@dataclass(frozen=True, slots=True)
class Target:
    """Where one SRV record leads."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Records:
    """What DNS says of a domain."""

    services: Mapping[str, tuple[Target, ...]]
    """By service; empty: there is no SRV record."""
    addresses: Mapping[str, tuple[str, ...]]
    """By host, the domain among them: A and AAAA."""


def made_up(domain: str) -> bool:
    """Whether nobody can look the domain up in public DNS. Pure."""
    name = domain.lower()
    return "." not in name or any(name == one or name.endswith(f".{one}") for one in _MADE_UP)


def findings(domain: str, port: int, here: IPv4Address | None, records: Records | str) -> list[Finding]:
    """What is to be said of the domain's DNS. Pure.

    ``here``: the address at which the stack is called, None: not known before it is deployed. ``records``
    may be the reason why they could not be read.
    """
    what = f"DNS of {domain}"
    wanted = _wanted(domain, port, here)
    if made_up(domain):
        return [warning(what, "the domain is made up: no terminal elsewhere can look it up", "set domain")]
    if isinstance(records, str):
        return [unknown(what, records, f"see that there will be {wanted}")]
    found = [_of_service(domain, port, here, records, service) for service in _SERVICES]
    if not any(records.services.values()):
        own = records.addresses.get(domain, ())
        if not own:
            return [warning(what, "there is neither an SRV nor an A record", f"make {wanted}")]
        if port != _DEFAULT_PORT:
            said = f"no SRV record, and the stack's port {port} is not {_DEFAULT_PORT}"
            return [warning(what, said, f"make {wanted}")]
        return [_leads(what, f"A {listed(list(own))}", own, here, wanted)]
    return found


def _of_service(domain: str, port: int, here: IPv4Address | None, records: Records, service: str) -> Finding:
    what = f"DNS {service}.{domain}"
    targets, wanted = records.services.get(service, ()), _wanted(domain, port, here)
    if not targets:
        todo = f"make {wanted}, for terminals that use {service[6:].upper()} only"
        return warning(what, "there is no such SRV record", todo)
    shown = listed([f"{one.host}:{one.port}" for one in targets])
    if others := sorted({one.port for one in targets} - {port}):
        said = f"SRV {shown}; the stack's port is {port}, not {listed([str(one) for one in others])}"
        return warning(what, said, "correct the port, or sip.port")
    addresses = tuple(address for one in targets for address in records.addresses.get(one.host, ()))
    return _leads(what, f"SRV {shown}", addresses, here, wanted)


def _leads(
    what: str, said: str, addresses: tuple[str, ...], here: IPv4Address | None, wanted: str
) -> Finding:
    if not addresses:
        return warning(what, f"{said}, which has no address", f"make {wanted}")
    if here is None:
        shown = listed(sorted(set(addresses)))
        return warning(
            what, f"{said} ({shown}); where the stack will be is not known yet", f"make it {wanted} then"
        )
    others = sorted({one for one in addresses if ip_address(one) != here})
    if others:
        return warning(what, f"{said} leads to {listed(others)}, not to {here}", f"make it {wanted}")
    return ok(what, f"{said} leads to {here}")


def _wanted(domain: str, port: int, here: IPv4Address | None) -> str:
    where = str(here) if here is not None else "the floating IP of kamailio, once it is made"
    services = " and ".join(f"{service}.{domain}" for service in _SERVICES)
    return f"SRV {services} to port {port} of a host whose A record is {where}"


async def look_up(domain: str) -> Records | str:
    """Ask the resolvers of this machine; a sentence when they do not answer."""
    try:
        resolver = dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration as e:
        return f"this machine has no resolver: {e}"
    try:
        found = await asyncio.gather(*(_services(resolver, f"{one}.{domain}") for one in _SERVICES))
        services = dict(zip(_SERVICES, found, strict=True))
        hosts = sorted({domain, *(one.host for targets in found for one in targets)})
        addresses = await asyncio.gather(*(_addresses(resolver, host) for host in hosts))
    except (dns.exception.DNSException, OSError) as e:
        return f"no answer from DNS: {' '.join(str(e).split())}"
    return Records(services, dict(zip(hosts, addresses, strict=True)))


async def _services(resolver: dns.asyncresolver.Resolver, name: str) -> tuple[Target, ...]:
    answers = await _ask(resolver, name, "SRV")
    targets = [Target(one.target.to_text(omit_final_dot=True), one.port) for one in answers]
    return tuple(sorted((one for one in targets if one.host not in ("", ".")), key=lambda one: one.host))


async def _addresses(resolver: dns.asyncresolver.Resolver, host: str) -> tuple[str, ...]:
    found = await asyncio.gather(*(_ask(resolver, host, kind) for kind in ("A", "AAAA")))
    return tuple(str(one.address) for answers in found for one in answers)


async def _ask(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> list[Any]:
    """The records; none if there is no such name.

    Raises:
        dns.exception.DNSException: nobody answered, or not in time.
    """
    try:
        answer = await resolver.resolve(dns.name.from_text(name), kind, lifetime=LIMIT_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    return list(answer)
