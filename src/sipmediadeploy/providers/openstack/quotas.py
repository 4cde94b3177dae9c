"""Whether the project's quotas are enough for a stack at its maximum. Pure.

What the stack has already is its own, and asked for no more: a stack that runs is told the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.findings import Finding, Level, Need, ok, problem, unknown
from sipmediadeploy.providers.openstack import ensure, foundation, marks
from sipmediadeploy.providers.openstack.cloud import Body
from sipmediadeploy.providers.openstack.service_addresses import ROLES
from sipmediadeploy.providers.openstack.survey import Survey
from sipmediadeploy.stack import OPENSTACK_SUBNET, OpenStack, Role, Stack

_EGRESS_RULES = 2
"""That Neutron gives to every new security group."""
_LEASE_PORTS = 2
"""The record, and the claim of who deletes it."""
_SERVING_PORTS = 2
"""The router's and the DHCP server's, which count as the project's."""
_LOWER = "lower the pools' numbers, or ask for a higher quota"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much of one thing the stack has at its maximum."""

    what: str
    most: int
    own: int
    """What of it is there already."""
    unit: str = ""


def findings(stack: Stack, needs: Sequence[Need], survey: Survey) -> list[Finding]:
    """A finding for each quota."""
    if isinstance(survey.owned, ProviderError):
        return [unknown("quotas", f"what the stack has already can't be read: {survey.owned}")]
    return [
        *_of_nova(needs, survey),
        *_of_neutron(stack, needs, survey),
        *_of_cinder(stack, needs, survey),
    ]


def compare(wanted: Wanted, limit: int, used: int, short: Level = Level.PROBLEM, todo: str = "") -> Finding:
    """Whether ``limit`` (below zero: none) leaves what is wanted, ``used`` of it being in use now."""
    what, unit = f"quota of {wanted.what}", wanted.unit
    plan = f"{wanted.most}{unit} at most" + (f", {wanted.own}{unit} of them there" if wanted.own else "")
    if limit < 0:
        return ok(what, f"{plan}; no limit")
    free, more = max(limit - used, 0), max(wanted.most - wanted.own, 0)
    room = f"{free}{unit} of {limit}{unit} free"
    if more <= free:
        return ok(what, f"{plan}; {room}")
    return Finding(short, what, f"{plan}; {room}: {more - free}{unit} too few", todo or _LOWER)


def public_addresses(settings: OpenStack, needs: Sequence[Need]) -> int:
    """How many addresses of the external network the stack has at most."""
    gateways = sum(need.replicas for need in needs if need.role is Role.GATEWAY)
    return len(ROLES) + settings.has_public_api + (0 if settings.public_address == "none" else gateways)


def _of_nova(needs: Sequence[Need], survey: Survey) -> list[Finding]:
    limits, owned = survey.limits, survey.owned
    if isinstance(limits, ProviderError) or isinstance(owned, ProviderError):
        return [unknown("quotas of Nova", f"can't be read: {limits}")]
    of = [_flavor(server) for server in owned.servers]
    wanted = [(Wanted("servers", sum(need.replicas for need in needs), len(of)), "Instances")]
    flavors = {need.role: survey.flavors.get(need.role) for need in needs}
    known = {role: one for role, one in flavors.items() if isinstance(one, Mapping)}
    found: list[Finding] = []
    if len(known) == len(needs):
        cores = sum(int(known[need.role]["vcpus"]) * need.replicas for need in needs)
        ram = sum(int(known[need.role]["ram"]) * need.replicas for need in needs)
        wanted += [
            (Wanted("cores", cores, sum(int(one.get("vcpus", 0)) for one in of)), "Cores"),
            (Wanted("memory", ram, sum(int(one.get("ram", 0)) for one in of), " MiB"), "RAM"),
        ]
    else:
        found.append(unknown("quotas of cores and memory", "not looked at: a flavour is missing"))
    for one, key in wanted:
        limit = "maxTotalRAMSize" if key == "RAM" else f"maxTotal{key}"
        found.append(compare(one, int(limits[limit]), int(limits[f"total{key}Used"])))
    return found + _of_groups(needs, limits, owned.server_groups)


def _of_groups(needs: Sequence[Need], limits: Body, own: int) -> list[Finding]:
    """Groups are soft, and done without where there is no more quota; a group that is full is not."""
    if "maxServerGroups" not in limits:
        return []
    groups = sum(-(-need.replicas // marks.GROUP_SIZE) for need in needs)
    todo = "without a group replicas of a pool may share a host: ask for a higher quota"
    used = int(limits.get("totalServerGroupsUsed", 0))
    wanted = Wanted("server groups", groups, own)
    found = [compare(wanted, int(limits["maxServerGroups"]), used, Level.WARNING, todo)]
    largest = min(marks.GROUP_SIZE, max(need.replicas for need in needs))
    members, what = int(limits.get("maxServerGroupMembers", -1)), "quota of servers in a group"
    if 0 <= members < largest:
        found.append(problem(what, f"{largest} at most; the limit is {members}", _LOWER))
    else:
        found.append(
            ok(what, f"{largest} at most; " + (f"the limit is {members}" if members >= 0 else "no limit"))
        )
    return found


def _of_neutron(stack: Stack, needs: Sequence[Need], survey: Survey) -> list[Finding]:
    quotas, owned = survey.quotas, survey.owned
    if isinstance(quotas, ProviderError) or isinstance(owned, ProviderError):
        todo = "compare them with what the pools have at most"
        return [unknown("quotas of Neutron", f"can't be read: {quotas}", todo)]
    found = []
    for key, wanted in _wanted_of_neutron(stack, needs, survey).items():
        if (quota := quotas.get(key)) is not None:
            used = int(quota["used"]) + int(quota.get("reserved", 0))
            found.append(compare(wanted, int(quota["limit"]), used))
    return found


def _wanted_of_neutron(stack: Stack, needs: Sequence[Need], survey: Survey) -> dict[str, Wanted]:
    settings, owned = stack.openstack or OpenStack(), survey.owned
    assert not isinstance(owned, ProviderError)
    replicas = {need.role: need.replicas for need in needs}
    gateways, service = replicas.get(Role.GATEWAY, 0), len(ROLES)
    ports = sum(replicas.values()) + _LEASE_PORTS + _SERVING_PORTS
    ports += service if settings.service_addresses == "vrrp" else 0
    ports += gateways if settings.public_address == "network" else 0
    ips = public_addresses(settings, needs) - (gateways if settings.public_address == "network" else 0)
    groups = {role: one for role, one in survey.groups.items() if not isinstance(one, ProviderError)}
    subnet = survey.subnet or OPENSTACK_SUBNET
    rules = {role: foundation.rules(stack, role, subnet) for role in foundation.roles_of(stack)}
    there = {role: one for role, one in groups.items() if one.groups and role in rules}
    covered = {
        role: len(rules[role]) - len(ensure.missing_rules(rules[role], list(one.rules)))
        for role, one in there.items()
    }
    return {
        "port": Wanted("ports", ports, owned.ports),
        "floatingip": Wanted("floating IPs", ips, len(owned.floating_ips)),
        "network": Wanted("networks", 2, owned.foundation.get("network", 0)),
        "subnet": Wanted("subnets", 2, owned.foundation.get("subnet", 0)),
        "router": Wanted("routers", 1, owned.foundation.get("router", 0)),
        "security_group": Wanted("security groups", len(rules), len(there)),
        "security_group_rule": Wanted(
            "rules of security groups",
            sum(map(len, rules.values())) + _EGRESS_RULES * len(rules),
            sum(covered.values()) + _EGRESS_RULES * len(there),
        ),
    }


def _of_cinder(stack: Stack, needs: Sequence[Need], survey: Survey) -> list[Finding]:
    limits, settings, owned = survey.volumes, stack.openstack, survey.owned
    if limits is None or settings is None or settings.volume_gib is None:
        return []
    if isinstance(limits, ProviderError) or isinstance(owned, ProviderError):
        return [unknown("quotas of volumes", f"can't be read: {limits}")]
    most, own, size = sum(need.replicas for need in needs), len(owned.servers), settings.volume_gib
    volumes, space = Wanted("volumes", most, own), Wanted("volumes' space", most * size, own * size, " GiB")
    return [
        compare(volumes, int(limits["maxTotalVolumes"]), int(limits["totalVolumesUsed"])),
        compare(space, int(limits["maxTotalVolumeGigabytes"]), int(limits["totalGigabytesUsed"])),
    ]


def _flavor(server: Body) -> Body:
    """What a server was made with: Nova says so since microversion 2.47."""
    return dict(server.get("flavor") or {})
