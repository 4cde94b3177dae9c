"""What the cloud is asked to make: request bodies as the API reference has them. Pure."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import yaml

from sipmediadeploy.protocol.replica import (
    PATH,
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
)
from sipmediadeploy.providers.base import ProviderError
from sipmediadeploy.providers.openstack import marks
from sipmediadeploy.stack import OpenStack

USER_DATA_LIMIT = 65_535
"""Nova's, in characters of base64."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The ids of what a replica is made of and within."""

    image: str
    flavor: str
    network: str
    subnet: str
    security_groups: tuple[str, ...]
    group: str | None
    """Server group; None: the quota of groups is used up, and the cloud places as it likes."""


@dataclass(frozen=True, slots=True)
class Public:
    """The public addresses that a replica is told of, because it can't see them itself."""

    pool: IPv4Address | None = None
    """The floating IP of the replica's own pool."""
    own: IPv4Address | None = None
    """A gateway's own."""
    turn: IPv4Address | None = None
    """What gateways reach Coturn by, where it has no service address."""


def replica_port(
    document: ReplicaDocument, parts: Parts, service_address: IPv4Address | None
) -> dict[str, Any]:
    """The port of a replica; ``service_address``: it may answer that one, too.

    Address pairs are part of the request that makes the port, and never change: some agents of Neutron
    stop working when they do.
    """
    port: dict[str, Any] = {
        "name": document.name,
        "description": marks.replica_mark(document.stack),
        "network_id": parts.network,
        "fixed_ips": [{"subnet_id": parts.subnet, "ip_address": str(document.address)}],
        "security_groups": list(parts.security_groups),
    }
    if service_address is not None:
        port["allowed_address_pairs"] = [{"ip_address": str(service_address)}]
    return {"port": port}


def public_port(document: ReplicaDocument, network: str, parts: Parts) -> dict[str, Any]:
    """A gateway's port on the external network; the cloud chooses its address."""
    return {
        "port": {
            "name": f"{document.name}-public",
            "description": marks.replica_mark(document.stack),
            "network_id": network,
            "security_groups": list(parts.security_groups),
        }
    }


def floating_ip(network: str, mark: str, port: str | None) -> dict[str, Any]:
    """A floating IP, mapped to ``port`` by the same request."""
    body = {"floating_network_id": network, "description": mark}
    return {"floatingip": body | ({"port_id": port} if port is not None else {})}


def server(
    document: ReplicaDocument,
    parts: Parts,
    ports: Sequence[str],
    settings: OpenStack,
    metadata: Mapping[str, str],
    user_data: str,
) -> dict[str, Any]:
    """The server of a replica; its first port is the one on the stack's own network."""
    one: dict[str, Any] = {
        "name": document.name,
        "flavorRef": parts.flavor,
        "networks": [{"port": port} for port in ports],
        "metadata": dict(metadata),
        "tags": [marks.server_tag(document.stack)],
        "user_data": user_data,
    }
    if settings.volume_gib is None:
        one["imageRef"] = parts.image
    else:
        one["block_device_mapping_v2"] = [
            {
                "boot_index": 0,
                "source_type": "image",
                "uuid": parts.image,
                "destination_type": "volume",
                "volume_size": settings.volume_gib,
                "delete_on_termination": True,
            }
        ]
    if settings.key_pair is not None:
        one["key_name"] = settings.key_pair
    if settings.config_drive:
        one["config_drive"] = True
    if zone := metadata.get(marks.ZONE):
        one["availability_zone"] = zone
    body: dict[str, Any] = {"server": one}
    if parts.group is not None:
        body["os:scheduler_hints"] = {"group": parts.group}
    return body


def user_data(document: ReplicaDocument) -> str:
    """A cloud-init document, in base64, that puts the replica's own document where the agent reads it.

    Raises:
        ProviderError: it is larger than the cloud takes.
    """
    packed = base64.b64encode(gzip.compress(document.to_yaml().encode(), mtime=0)).decode()
    data = {
        "preserve_hostname": False,
        "hostname": document.name[:63],
        "ssh_pwauth": False,
        "write_files": [
            {
                "path": str(PATH),
                "owner": "root:root",
                "permissions": "0600",
                "encoding": "gz+b64",
                "content": packed,
            }
        ],
    }
    text = "#cloud-config\n" + yaml.safe_dump(data, sort_keys=False)
    coded = base64.b64encode(text.encode()).decode()
    if len(coded) > USER_DATA_LIMIT:
        raise ProviderError(
            f"replica {document.name}: its document is larger than the cloud takes ({len(coded)} of "
            f"{USER_DATA_LIMIT} characters)",
            hint="is conference.ca_file a whole bundle of authorities?",
        )
    return coded


def with_public(document: ReplicaDocument, public: Public) -> ReplicaDocument:
    """The document with the public addresses that only the provider knows.

    Its service hash is not the planned one any more: the server's metadata keeps that.
    """
    service = document.service
    if isinstance(service, KamailioService) and service.advertise is None:
        return _with(document, service.model_copy(update={"advertise": public.pool}))
    # One that relays to the demo conference beside it is told of no other address: ``scaler/documents.py``.
    if isinstance(service, CoturnService) and service.external_ip is None and not service.allowed_peers:
        return _with(document, service.model_copy(update={"external_ip": public.pool}))
    if isinstance(service, GatewayService):
        conference = service.conference
        if public.turn is not None and conference.turn_server is not None:
            server = conference.turn_server.model_copy(update={"address": public.turn})
            conference = conference.model_copy(update={"turn_server": server})
        own = public.own or service.media_address
        return _with(document, service.model_copy(update={"media_address": own, "conference": conference}))
    return document


def _with(document: ReplicaDocument, service: object) -> ReplicaDocument:
    return document.model_copy(update={"service": service})
