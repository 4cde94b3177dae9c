"""What of a survey of a cloud is in the way of a stack, and what to do about it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.findings import (
    Finding,
    Level,
    Need,
    failed,
    listed,
    ok,
    problem,
    unknown,
    warning,
)
from sipmediadeploy.providers.openstack import ensure, foundation, quotas
from sipmediadeploy.providers.openstack.cloud import COMPUTE_VERSION, Body
from sipmediadeploy.providers.openstack.errors import (
    Missing,
    NotAllowed,
    QuotaExceeded,
    Refused,
    TooManyRequests,
    Unavailable,
)
from sipmediadeploy.providers.openstack.lease import network_name
from sipmediadeploy.providers.openstack.lookup import MADE_BY, Image
from sipmediadeploy.providers.openstack.survey import Survey
from sipmediadeploy.stack import Limits, OpenStack, Stack

CLOCK_S = 5.0
"""By how much the clocks may differ."""
_FIRST_SLOT, _LAST_SLOT = 2, foundation.FIRST_GIVEN - 1
"""Last bytes of the addresses that the stack gives out itself."""
_EXTENSIONS = {
    "external-net": "external networks",
    "router": "routers and floating IPs",
    "security-group": "security groups",
    "standard-attr-description": "descriptions, by which the scaler finds what is the stack's",
}
_PAIRS = "allowed-address-pairs"
_REASSOCIATE = (
    "ask for the right to set them, or set openstack.service_addresses: reassociate (callers that keep "
    "their port are lost then when an address moves)"
)
NOT_LOOKED_AT = (
    *("Nova", "Neutron", "Glance", "clock", "quotas", "images", "flavours", "external network"),
    *("network", "lease's network", "security groups", "address pairs"),
)
"""What can't be seen without credentials."""


def findings(stack: Stack, needs: Sequence[Need], survey: Survey | ProviderError) -> list[Finding]:
    """All that was looked at in the cloud; nothing else can be if the credentials are not accepted."""
    if isinstance(survey, ProviderError):
        first = failed(Level.PROBLEM, "credentials", survey)
        return [first, *(unknown(what, "not looked at: no credentials") for what in NOT_LOOKED_AT)]
    settings = stack.openstack or OpenStack()
    return [
        ok("credentials", f"accepted, project {survey.project}"),
        *_services(survey),
        _clock(survey),
        *quotas.findings(stack, needs, survey),
        *_images(settings, needs, survey),
        *_flavors(settings, needs, survey),
        _external(stack, needs, survey),
        *_network(settings, survey),
        _lease(stack, survey),
        *_groups(stack, needs, survey),
        _address_pairs(settings, survey),
        *_named(settings, survey),
    ]


def judged(what: str, error: ProviderError) -> Finding:
    """What an error says: something is missing or refused, or the cloud could not be asked."""
    asked = not isinstance(error, Unavailable | TooManyRequests)
    return failed(Level.PROBLEM if asked else Level.UNKNOWN, what, error)


def _services(survey: Survey) -> list[Finding]:
    answers = {"Nova": survey.limits, "Glance": survey.image_list, "Neutron": survey.extensions}
    found = [
        failed(Level.PROBLEM, what, one) for what, one in answers.items() if isinstance(one, ProviderError)
    ]
    if not isinstance(survey.limits, ProviderError):
        found.append(ok("Nova", f"answers, and serves microversion {COMPUTE_VERSION}"))
    if not isinstance(survey.image_list, ProviderError):
        found.append(ok("Glance", "answers"))
    if isinstance(survey.extensions, ProviderError):
        return found
    lacking = [f"{alias} ({why})" for alias, why in _EXTENSIONS.items() if alias not in survey.extensions]
    if lacking:
        todo = "the cloud's operators can add it; without it this cloud can't be used"
        return [*found, problem("Neutron", f"it has no extension {listed(lacking)}", todo)]
    if "standard-attr-timestamp" not in survey.extensions:
        said = "answers; it does not say when something was made (no extension standard-attr-timestamp)"
        todo = "ports that a scaler leaves half-made when it dies are not swept up: look for them yourself"
        return [*found, warning("Neutron", said, todo)]
    return [*found, ok("Neutron", "answers, and has the extensions that are needed")]


def _clock(survey: Survey) -> Finding:
    ahead = survey.ahead_s
    if isinstance(ahead, ProviderError):
        return failed(Level.UNKNOWN, "clock", ahead)
    if ahead is None:
        return unknown("clock", "the cloud does not say what time it is")
    if abs(ahead) <= CLOCK_S:
        return ok("clock", f"the cloud's and this machine's differ by less than {CLOCK_S:.0f} s")
    way = "behind" if ahead > 0 else "ahead of"
    todo = "set this machine's clock (chrony, systemd-timesyncd), or tell the cloud's operators"
    return warning("clock", f"this machine's is {abs(ahead):.0f} s {way} the cloud's", todo)


def _images(settings: OpenStack, needs: Sequence[Need], survey: Survey) -> list[Finding]:
    found = []
    for need in needs:
        what, image = f"image of {need.role}", survey.images[need.role]
        if not isinstance(image, ProviderError):
            found.append(ok(what, f"is there: {image.id}"))
            continue
        # One that the stack file names is somebody else's to make.
        built = isinstance(image, Missing) and need.role not in settings.images
        found.append(replace(judged(what, image), by_deploy=built))
    return found


def _flavors(settings: OpenStack, needs: Sequence[Need], survey: Survey) -> list[Finding]:
    return [_flavor(settings, need, survey.flavors[need.role], survey.images[need.role]) for need in needs]


def _flavor(
    settings: OpenStack, need: Need, flavor: Body | ProviderError, image: Image | ProviderError
) -> Finding:
    what = f"flavour of {need.role}"
    if isinstance(flavor, ProviderError):
        return judged(what, flavor)
    has = f"{flavor.get('name')}: {flavor['vcpus']} CPUs, {flavor['ram']} MiB"
    limits: Limits = need.limits
    if flavor["vcpus"] < math.ceil(limits.cpus) or flavor["ram"] < limits.memory_mib:
        todo = f"name a larger one in openstack.flavors.{need.role}, or lower pools.{need.role}.limits"
        said = f"{has}; pools.{need.role}.limits are {limits.cpus:g} CPUs, {limits.memory_mib} MiB"
        return problem(what, said, todo)
    if isinstance(image, Image) and (said := _too_small(settings, flavor, image)):
        todo = f"name a larger one in openstack.flavors.{need.role}, or build the image on a smaller one"
        return problem(what, f"{flavor.get('name')}: {said}", todo)
    return ok(what, has)


def _too_small(settings: OpenStack, flavor: Body, image: Image) -> str:
    """What the image needs and the flavour does not have; empty: nothing."""
    disk = settings.volume_gib or flavor.get("disk") or 0  # without a size it is the image's
    if disk and disk < image.disk_gib:
        return f"{disk} GB of disk, and the image needs {image.disk_gib}"
    if flavor["ram"] < image.memory_mib:
        return f"{flavor['ram']} MiB, and the image needs {image.memory_mib}"
    return ""


def _external(stack: Stack, needs: Sequence[Need], survey: Survey) -> Finding:
    what, external, settings = "external network", survey.external, stack.openstack or OpenStack()
    if isinstance(external, ProviderError):
        return judged(what, external)
    if external.id is None:
        if settings.public_address == "none":
            return warning(what, "there is none: nobody outside can call the stack")
        todo = "ask for one, or set openstack.public_address: none"
        return problem(what, "the cloud has none that this project sees", todo)
    if external.free is None:
        return ok(what, "is there; only the cloud's operators see how many addresses are free")
    owned = 0 if isinstance(survey.owned, ProviderError) else len(survey.owned.floating_ips)
    more = max(quotas.public_addresses(settings, needs) - owned, 0)
    if external.free < more:
        todo = "ask for more, lower pools.gateway.max, or set openstack.public_address: none"
        return problem(what, f"{external.free} addresses are free; {more} more are needed at most", todo)
    return ok(what, f"is there, {external.free} addresses are free; {more} more are needed at most")


def _network(settings: OpenStack, survey: Survey) -> list[Finding]:
    what, network = "network", survey.network
    if isinstance(network, ProviderError):
        return [judged(what, network)]
    if network.networks == 0:
        return [warning(what, "not there yet", MADE_BY, by_deploy=True)]
    if not network.subnets and settings.network is None:  # what makes it was interrupted
        return [problem(what, "it has no subnet yet", MADE_BY, by_deploy=True)]
    subnet = survey.subnet
    if subnet is None or subnet.prefixlen != 24:
        ranges = listed([str(one["cidr"]) for one in network.subnets]) or "no subnet"
        todo = "give it one IPv4 subnet, a /24, or name another one in openstack.network"
        return [problem(what, f"it has {ranges}, and needs one /24", todo)]
    for pool in network.subnets[0].get("allocation_pools") or ():
        first, last = (int(IPv4Address(pool[key])) - int(subnet[0]) for key in ("start", "end"))
        if first <= _LAST_SLOT and last >= _FIRST_SLOT:
            pool_range = f"{pool['start']} to {pool['end']}"
            said = f"{subnet}; its allocation pool {pool_range} has the stack's own addresses"
            todo = f"leave {subnet[_FIRST_SLOT]} to {subnet[_LAST_SLOT]} out of it: the stack gives them out"
            return [problem(what, said, todo)]
    return [ok(what, f"is there, {subnet}")]


def _lease(stack: Stack, survey: Survey) -> Finding:
    what, lease, name = "lease's network", survey.lease, network_name(stack.name)
    if isinstance(lease, ProviderError):
        return judged(what, lease)
    if lease.networks == 0:
        return warning(what, "not there yet", MADE_BY, by_deploy=True)
    if lease.networks > 1:
        todo = "remove all but one: with two of them there would be two leaders"
        return problem(what, f"there are {lease.networks} networks {name}", todo)
    if not lease.subnets:
        return problem(what, "it has no subnet yet", MADE_BY, by_deploy=True)
    if len(lease.subnets) != 1 or IPv4Network(lease.subnets[0]["cidr"]).prefixlen > 29:
        todo = "give it one subnet, a /29, with no DHCP and no gateway"
        return problem(what, f"{name} has {len(lease.subnets)} subnets, or one that is too small", todo)
    return ok(what, "is there")


def _groups(stack: Stack, needs: Sequence[Need], survey: Survey) -> list[Finding]:
    found, later = [], []
    for need in needs:
        what, group = f"security group of {need.role}", survey.groups[need.role]
        if isinstance(group, ProviderError):
            found.append(judged(what, group))
        elif group.groups == 0:
            later.append(str(need.role))
        elif group.groups > 1:
            found.append(problem(what, f"there are {group.groups} of that name", "remove all but one"))
        elif survey.subnet is None:
            found.append(unknown(what, "is there; what it should let in depends on the network"))
        else:
            wanted = foundation.rules(stack, need.role, survey.subnet)
            lacking = [spoken(rule) for rule in ensure.missing_rules(wanted, list(group.rules))]
            todo = f"add them; {MADE_BY.replace('makes it', 'does')}"
            said = f"it does not let in {listed(lacking)}"
            complete = ok(what, "has the rules that it needs")
            found.append(problem(what, said, todo, by_deploy=True) if lacking else complete)
    if later:
        said = f"not there yet: those of {listed(later)}"
        found.append(warning("security groups", said, MADE_BY, by_deploy=True))
    return found


def spoken(rule: foundation.Rule) -> str:
    """A rule in words: ``udp 5060 from 0.0.0.0/0``."""
    protocol = {"112": "vrrp"}.get(rule.protocol, rule.protocol)
    first, last = rule.first_port, rule.last_port
    ports = "" if first is None else f" {first}" if first == last else f" {first}-{last}"
    return f"{protocol}{ports} from {rule.source}"


def _address_pairs(settings: OpenStack, survey: Survey) -> Finding:
    what, tried, extensions = "address pairs", survey.address_pairs, survey.extensions
    if settings.service_addresses != "vrrp":
        said = "not used (openstack.service_addresses: reassociate)"
        return warning(what, said, "callers that keep their port are lost when an address moves")
    if not isinstance(extensions, ProviderError) and _PAIRS not in extensions:
        return problem(what, f"the cloud has no extension {_PAIRS}", _REASSOCIATE)
    if isinstance(tried, NotAllowed):
        return problem(what, f"this project may not set them: {tried.said}", _REASSOCIATE)
    if isinstance(tried, Refused):
        todo = f"have port security enabled on the stack's network; else {_REASSOCIATE}"
        return problem(what, f"the cloud refuses a port with one: {tried.said}", todo)
    if isinstance(tried, ProviderError):
        short = isinstance(tried, QuotaExceeded)
        return failed(Level.PROBLEM if short else Level.UNKNOWN, what, tried)
    if not tried:
        said = "the cloud has them; whether this project may set them is seen once the network is there"
        return unknown(what, said, "run smd doctor again then, before the first scaler is made")
    return ok(what, "a port with one could be made (and was removed again)")


def _named(settings: OpenStack, survey: Survey) -> list[Finding]:
    """What is looked at only if the stack file names it."""
    found = []
    if settings.key_pair is not None:
        what = f"key pair {settings.key_pair}"
        if isinstance(survey.key_pair, ProviderError):
            found.append(judged(what, survey.key_pair))
        elif survey.key_pair:
            found.append(ok(what, "is there"))
        else:
            todo = "make it as this user (openstack keypair create), or correct openstack.key_pair"
            found.append(problem(what, "is missing", todo))
    if isinstance(survey.zones, ProviderError):
        return [*found, judged("availability zones", survey.zones)]
    for zone in settings.zones:
        what, there = f"availability zone {zone}", survey.zones.get(zone)
        if there is None:
            names = listed(sorted(survey.zones)) or "none"
            found.append(problem(what, f"is missing; there are: {names}", "correct openstack.zones"))
        elif not there:
            found.append(problem(what, "is there and not available", "take it out of openstack.zones"))
        else:
            found.append(ok(what, "is available"))
    return found
