"""Makes replica documents: what each replica is told, from stack, slot and secrets. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from sipmediadeploy.protocol.replica import (
    BridgeAccess,
    ConferenceAccess,
    ConferenceDemoService,
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
    ScalerService,
    Service,
    TokenSigning,
    TurnServer,
    Vrrp,
)
from sipmediadeploy.protocol.secrets import Secrets, agent_token, turn_secret
from sipmediadeploy.providers.docker import addresses
from sipmediadeploy.stack import GATEWAY_SIDE_SIP_PORT, Role, Stack


def make_document(
    stack: Stack,
    subnet: IPv4Network,
    secrets: Secrets,
    image_version: str,
    role: Role,
    slot: int,
    name: str,
) -> ReplicaDocument:
    """The document of the replica ``name`` in ``slot`` of the pool of ``role``."""
    return ReplicaDocument(
        stack=stack.name,
        name=name,
        slot=slot,
        address=addresses.slot_address(subnet, role, slot),
        agent_token=agent_token(secrets.master, name),
        service=_service(stack, subnet, secrets, image_version, role, slot),
        vrrp=None if _without_service_addresses(stack) else _vrrp(subnet, role, slot),
    )


def _service(
    stack: Stack, subnet: IPv4Network, secrets: Secrets, image_version: str, role: Role, slot: int
) -> Service:
    match role:
        case Role.KAMAILIO:
            return KamailioService(
                service_address=_answered_address(stack, subnet, role, slot),
                port=stack.sip.port,
                gateway_port=GATEWAY_SIDE_SIP_PORT,
                advertise=stack.publish,
                domain=stack.domain,
                network=subnet,
                trusted=stack.sip.trusted,
                # The stack's own network stays allowed: `smd call` comes from there.
                allow=(*stack.sip.allow, subnet) if stack.sip.allow else (),
            )
        case Role.COTURN:
            return CoturnService(
                service_address=_answered_address(stack, subnet, role, slot),
                # The demo conference is beside the relay and sees its packets come from the service address:
                # a relay candidate that says otherwise fails ICE's check (RFC 8445, section 7.2.5.3.1).
                external_ip=None if stack.demo else stack.publish,
                realm=stack.domain,
                secret=turn_secret(secrets.master),
                allowed_peers=(subnet,) if stack.demo else (),
            )
        case Role.GATEWAY:
            return GatewayService(
                media_address=stack.publish or addresses.slot_address(subnet, role, slot),
                rtp_ports=addresses.rtp_ports(stack, slot if stack.provider == "docker" else 0),
                capacity=stack.pools.gateway.calls,
                rtp_timeout_s=stack.media.rtp_timeout_s,
                video_kbps=stack.media.video_kbps,
                conference=conference_access(stack, subnet, secrets),
            )
        case Role.CONFERENCE_DEMO:
            return ConferenceDemoService(publish=stack.publish)
        case Role.SCALER:
            return ScalerService(
                stack_definition=stack,
                subnet=subnet,
                secrets=secrets,
                image_version=image_version,
            )


def conference_access(stack: Stack, subnet: IPv4Network, secrets: Secrets) -> ConferenceAccess:
    """How the stack's gateways reach the conference platform."""
    demo = addresses.slot_address(subnet, Role.CONFERENCE_DEMO, 0)
    return ConferenceAccess(
        platform=stack.conference.platform,
        url=stack.conference.url or f"ws://{demo}:8188/",
        turn=stack.turn,
        turn_server=None
        if stack.turn == "never"
        else TurnServer(
            address=_required_service_address(subnet, Role.COTURN), secret=turn_secret(secrets.master)
        ),
        alone_limit_s=stack.conference.alone_limit_s,
        domain=stack.conference.domain,
        muc=stack.conference.muc,
        focus=stack.conference.focus,
        websocket=stack.conference.websocket,
        request_url=stack.conference.request_url,
        ca=stack.conference.ca,
        token=secrets.conference_token,
        signing=_signing(stack, secrets),
        bridge=BridgeAccess(**stack.conference.bridge.model_dump())
        if stack.conference.bridge
        else BridgeAccess(),
    )


def _bridge(stack: Stack) -> BridgeAccess:
    given = stack.conference.bridge
    return BridgeAccess(**given.model_dump()) if given is not None else BridgeAccess()


def _signing(stack: Stack, secrets: Secrets) -> TokenSigning | None:
    jwt = stack.conference.jwt
    if jwt is None or secrets.conference_key is None:
        return None
    return TokenSigning(
        key=secrets.conference_key,
        issuer=jwt.issuer,
        audience=jwt.audience,
        subject=jwt.subject,
        key_id=jwt.key_id,
    )


def _without_service_addresses(stack: Stack) -> bool:
    """Replicas answer at their own addresses, and floating IPs are mapped to one of them."""
    return stack.openstack is not None and stack.openstack.service_addresses == "reassociate"


def _answered_address(stack: Stack, subnet: IPv4Network, role: Role, slot: int) -> IPv4Address:
    """Where the pool's service is reached on this replica."""
    if _without_service_addresses(stack):
        return addresses.slot_address(subnet, role, slot)
    return _required_service_address(subnet, role)


def _required_service_address(subnet: IPv4Network, role: Role) -> IPv4Address:
    address = addresses.service_address(subnet, role)
    if address is None:
        raise ValueError(f"the pool of {role} has no service address")
    return address


def _vrrp(subnet: IPv4Network, role: Role, slot: int) -> Vrrp | None:
    address = addresses.service_address(subnet, role)
    if address is None:
        return None
    others = (other for other in range(addresses.SLOTS[role]) if other != slot)
    return Vrrp(
        service_address=address,
        router_id=addresses.FIRST_HOST[role],
        priority=200 - slot,
        peers=tuple(addresses.slot_address(subnet, role, other) for other in others),
        prefix_length=subnet.prefixlen,
    )
