"""The replica document: all that one replica is told, as YAML at :data:`PATH` (mode 0600).

The scaler (or ``smd up``, for the first scaler) makes it; the agent reads it, renders the role's
configuration from it and supervises the role's service. It holds no secret but the replica's own.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from sipmediadeploy.protocol.agent import Gateway
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.stack import Role, Stack

PATH = Path("/etc/smd/replica.yaml")
AGENT_PORT = 8800
GATEWAY_SIP_PORT = 5060
TURN_PORT = 3478


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Vrrp(_Document):
    """How the pool's service address moves between its replicas (VRRP version 3, RFC 5798, unicast)."""

    service_address: IPv4Address
    router_id: Annotated[int, Field(ge=1, le=255)]
    priority: Annotated[int, Field(ge=1, le=254)]
    peers: tuple[IPv4Address, ...] = Field(description="addresses of all the other slots of the pool")
    prefix_length: Annotated[int, Field(ge=8, le=32)] = 24


class KamailioService(_Document):
    """Kamailio: ``service_address:port`` for the world, ``service_address:gateway_port`` for the gateways."""

    role: Literal[Role.KAMAILIO] = Role.KAMAILIO
    service_address: IPv4Address
    port: int = 5060
    gateway_port: int = 5080
    advertise: IPv4Address | None = Field(
        default=None, description="address that the world's socket puts into Via and Record-Route"
    )
    domain: str
    network: IPv4Network = Field(description="the stack's network; gateways are in it")
    trusted: tuple[IPv4Network, ...] = ()
    allow: tuple[IPv4Network, ...] = ()
    gateways: tuple[Gateway, ...] = Field(
        default=(), description="the gateways until a scaler tells of others: on hosts that have no scaler"
    )


class CoturnService(_Document):
    """Coturn on the service address, with ephemeral credentials made from ``secret``."""

    role: Literal[Role.COTURN] = Role.COTURN
    service_address: IPv4Address
    port: int = TURN_PORT
    external_ip: IPv4Address | None = None
    realm: str
    secret: str
    relay_ports: tuple[int, int] = (49160, 49559)
    allowed_peers: tuple[IPv4Network, ...] = Field(
        default=(), description="private networks that may be relayed to; all other private ones are denied"
    )


class TurnServer(_Document):
    """A TURN server and the shared secret of its ephemeral credentials."""

    address: IPv4Address
    port: int = TURN_PORT
    secret: str


class TokenSigning(_Document):
    """How tokens are made that a gateway joins rooms with (RFC 7519)."""

    key: str = Field(repr=False, description="a private key (PEM), or the secret shared with the platform")
    issuer: str
    audience: str = "jitsi"
    subject: str | None = None
    key_id: str | None = None


class BridgeAccess(_Document):
    """What is negotiated with Jitsi's bridge."""

    rtx: bool = True
    tcc: bool = False
    data_channel: bool = True


class ConferenceAccess(_Document):
    """Where and how a gateway joins rooms."""

    platform: str
    url: str
    turn: Literal["auto", "always", "never"] = "auto"
    turn_server: TurnServer | None = None
    alone_limit_s: float = 0.0
    domain: str | None = Field(default=None, description="XMPP domain; Jitsi only, as are all that follow")
    muc: str | None = Field(default=None, description="domain of the rooms")
    focus: str | None = Field(default=None, description="JID that conference requests go to")
    websocket: str | None = Field(default=None, description="address of XMPP over WebSocket")
    request_url: str | None = Field(default=None, description="address of conference requests by HTTP")
    ca: str | None = Field(default=None, description="certificate authorities, PEM")
    token: str | None = Field(default=None, repr=False, description="JSON Web Token to log in with")
    signing: TokenSigning | None = Field(default=None, description="makes such tokens, one for each join")
    bridge: BridgeAccess = BridgeAccess()


class GatewayService(_Document):
    """A gateway: SIP on its internal address, media on ``media_address`` within ``rtp_ports``."""

    role: Literal[Role.GATEWAY] = Role.GATEWAY
    sip_port: int = GATEWAY_SIP_PORT
    media_address: IPv4Address = Field(description="what SDP says: the published or own address")
    rtp_ports: tuple[int, int] = Field(description="first and last port for RTP and RTCP")
    capacity: int
    rtp_timeout_s: float = 30.0
    video_kbps: int = 1500
    conference: ConferenceAccess


class ConferenceDemoService(_Document):
    """The embedded conference: Janus and a page for browsers."""

    role: Literal[Role.CONFERENCE_DEMO] = Role.CONFERENCE_DEMO
    publish: IPv4Address | None = None
    https: bool = True
    page_port: int = 443
    janus_port: int = 8188
    rtp_ports: tuple[int, int] = (40000, 40399)


class ScalerService(_Document):
    """A scaler: the whole effective stack and its secrets, on scalers only."""

    role: Literal[Role.SCALER] = Role.SCALER
    stack_definition: Stack
    subnet: IPv4Network
    secrets: Secrets
    image_version: str = Field(description="tag of the images that replicas are made from")


Service = Annotated[
    KamailioService | CoturnService | GatewayService | ConferenceDemoService | ScalerService,
    Field(discriminator="role"),
]


class ReplicaDocument(_Document):
    """All that one replica is told."""

    version: Literal[1] = 1
    stack: str
    name: str
    slot: int
    address: IPv4Address
    agent_port: int = AGENT_PORT
    agent_token: str
    service: Service
    vrrp: Vrrp | None = None

    @property
    def role(self) -> Role:
        """The replica's role."""
        return self.service.role

    def to_yaml(self) -> str:
        """The document as YAML text."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def service_hash(self) -> str:
        """A hash (16 hex digits) of what the service is told: it differs when a replica is outdated."""
        text = self.service.model_dump_json() + (self.vrrp.model_dump_json() if self.vrrp else "")
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_replica_document(path: Path = PATH) -> ReplicaDocument:
    """Read the replica document.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a replica document (a pydantic ``ValidationError`` is one).
    """
    return ReplicaDocument.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
