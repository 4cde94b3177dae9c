"""The gateways as Kamailio's dispatcher reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from sipmediadeploy.protocol.agent import Gateways

_INACTIVE_PROBING = 9
"""dispatcher's flags: taken out (1), to be put back by an answered ping (8)."""


def dispatcher_list(gateways: Gateways, silent: frozenset[str] = frozenset()) -> str:
    """The dispatcher's list: set 1 has the gateways with free places, weighted by them.

    A gateway without one is left out: it gets no new call, and requests of its calls don't need the list.
    ``silent`` are URIs that are out of use now; they stay so until they answer a ping.
    """
    lines = ["# setid destination flags priority attributes"]
    for gateway in gateways.gateways:
        if gateway.free == 0:
            continue
        uri = f"sip:{gateway.address}:{gateway.port}"
        flags = _INACTIVE_PROBING if uri in silent else 0
        # dispatcher wants weights between 1 and 100.
        lines.append(f"1 {uri} {flags} 0 rweight={min(gateway.free, 100)}")
    return "\n".join(lines) + "\n"


def silent_gateways(listing: Mapping[str, object]) -> frozenset[str]:
    """URIs that the dispatcher took out of use, by the result of its RPC ``dispatcher.list``."""
    silent: set[str] = set()
    for record in _items(listing.get("RECORDS")):
        for target in _items(_get(_get(record, "SET"), "TARGETS")):
            destination = _get(target, "DEST")
            uri, flags = _get(destination, "URI"), _get(destination, "FLAGS")
            if isinstance(uri, str) and isinstance(flags, str) and flags.startswith("I"):
                silent.add(uri)
    return frozenset(silent)


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _get(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None
