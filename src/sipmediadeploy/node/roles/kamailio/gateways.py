"""The gateways as Kamailio's dispatcher reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from sipmediadeploy.protocol.agent import Gateways

_PINGED, _OUT = 8, 1
"""dispatcher's flags: it is pinged; it is out of use, until it answers a ping."""


def dispatcher_list(gateways: Gateways, silent: frozenset[str] = frozenset()) -> str:
    """The dispatcher's list: set 1 has the gateways with free places, weighted by them, which are pinged.

    A gateway without one is left out: it gets no new call, and requests of its calls don't need the list.
    Set 2 has the same ones and is never pinged: it is for calls when set 1 has no gateway in use.
    ``silent`` are URIs that are out of use now; they stay so until they answer a ping.
    """
    lines = ["# setid destination flags priority attributes"]
    for gateway in gateways.gateways:
        if gateway.free == 0:
            continue
        uri = f"sip:{gateway.address}:{gateway.port}"
        flags = _PINGED | _OUT if uri in silent else _PINGED
        # dispatcher wants weights between 1 and 100.
        weight = f"rweight={min(gateway.free, 100)}"
        lines += [f"1 {uri} {flags} 0 {weight}", f"2 {uri} 0 0 {weight}"]
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
