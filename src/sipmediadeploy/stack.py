"""The stack file: one deployment, described by one YAML file, as a validated model.

This module is the only place that knows the schema of ``stack.yaml``. Reading is strict: an unknown key,
a wrong type or an impossible value is a :class:`StackError` that names the file, the line, the key and,
for a misspelt key, the nearest valid one.
"""

from __future__ import annotations

import difflib
import re
import types
from enum import StrEnum
from importlib.metadata import entry_points
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails


class StackError(Exception):
    """The stack file can't be used. The message is complete: what, where and what to do."""


class Role(StrEnum):
    """What a replica does. ``conference-demo`` is there when the stack has no ``conference.url``."""

    KAMAILIO = "kamailio"
    COTURN = "coturn"
    GATEWAY = "gateway"
    SCALER = "scaler"
    CONFERENCE_DEMO = "conference-demo"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$")]
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
DomainName = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]


def _refuse_number(value: object) -> object:
    if isinstance(value, bool | int | float):
        raise ValueError("expected an address in dotted form, such as 198.51.100.7")  # 5 would be 0.0.0.5
    return value


# Numbers are strict: YAML has types of its own, and 'yes' or "2" in place of a number is a mistake.
Integer = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Address = Annotated[IPv4Address, BeforeValidator(_refuse_number)]
Subnet = Annotated[IPv4Network, BeforeValidator(_refuse_number)]
Port = Annotated[Integer, Field(ge=1, le=65535)]


WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]\S*$")]
WebSocketUrl = Annotated[str, StringConstraints(pattern=r"^wss?://[^\s/]\S*$")]


class Jwt(_Strict):
    """How the gateways' tokens are made: signed by the key in ``key_file``, for one room and name each.

    Source: Jitsi's ``tokens.md`` and RFC 7519. A PEM file with an RSA or EC key signs by RS256 or ES256; any
    other content is a secret shared with the platform (HS256).
    """

    issuer: Annotated[str, Field(min_length=1, description="iss: what the platform calls the application id")]
    key_file: Annotated[Path, Field(description="the key, beside the stack file, mode 0600")]
    audience: str = "jitsi"
    subject: Annotated[str | None, Field(description="sub; without it the XMPP domain")] = None
    key_id: Annotated[str | None, Field(description="kid, for platforms that look the key up by it")] = None


class Bridge(_Strict):
    """What is negotiated with Jitsi's bridge (decision 0092 has the figures of each)."""

    rtx: Annotated[bool, Field(description="lost packets are sent again (RFC 4588)")] = True
    tcc: Annotated[bool, Field(description="the bridge estimates the way to the gateway")] = False
    data_channel: Annotated[
        bool, Field(description="the bridge channel is an SCTP data channel where the bridge has them")
    ] = True


class Conference(_Strict):
    """The conference platform. Without ``url`` the embedded demo conference (Janus) is deployed and used.

    A Jitsi Meet needs its ``url`` only: the rest is found in the deployment's ``config.js``, or has Jitsi's
    own defaults. What is given here wins.
    """

    platform: Literal["janus", "jitsi"] = "janus"
    url: Annotated[str, StringConstraints(pattern=r"^(wss?|https?)://[^\s/]\S*$")] | None = None
    alone_limit_s: Annotated[
        Number,
        Field(
            ge=0,
            le=86_400,
            description="a terminal that is alone in its room for so long is hung up; 0: never",
        ),
    ] = 3600.0
    domain: Annotated[DomainName | None, Field(description="Jitsi: XMPP domain that guests log in to")] = None
    muc: Annotated[DomainName | None, Field(description="Jitsi: domain of the rooms")] = None
    focus: Annotated[DomainName | None, Field(description="Jitsi: where conference requests go as an IQ")] = (
        None
    )
    websocket: Annotated[WebSocketUrl | None, Field(description="Jitsi: XMPP over WebSocket")] = None
    request_url: Annotated[WebUrl | None, Field(description="Jitsi: conference requests by HTTP")] = None
    ca_file: Annotated[
        Path | None,
        Field(description="Jitsi: authorities (PEM) that its certificates are verified by besides the usual"),
    ] = None
    ca: Annotated[str | None, Field(description="what is in ca_file")] = None
    token_file: Annotated[
        Path | None, Field(description="Jitsi: a token to join with, beside the stack file, mode 0600")
    ] = None
    jwt: Annotated[Jwt | None, Field(description="Jitsi: tokens are made for each join")] = None
    bridge: Annotated[Bridge | None, Field(description="Jitsi: what is negotiated with its bridge")] = None

    @model_validator(mode="after")
    def _fits_the_platform(self) -> Self:
        if self.platform == "jitsi":
            if self.url is None:
                raise ValueError("platform jitsi needs a url, such as https://meet.example.org")
            if not self.url.startswith("http"):
                raise ValueError(f"platform jitsi needs an http(s) url (it is '{self.url}')")
            if self.token_file is not None and self.jwt is not None:
                raise ValueError("token_file and jwt are two ways to one thing; take one")
            return self
        if self.url is not None and not self.url.startswith("ws"):
            raise ValueError(f"platform janus needs a ws(s) url (it is '{self.url}'); is it a Jitsi Meet?")
        for name in (
            "domain",
            "muc",
            "focus",
            "websocket",
            "request_url",
            "ca_file",
            "ca",
            "token_file",
            "jwt",
            "bridge",
        ):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is for platform jitsi only")
        return self


class Limits(_Strict):
    """Resource limits of one replica."""

    cpus: Annotated[Number, Field(gt=0, le=256)] = 1.0
    memory_mib: Annotated[Integer, Field(ge=64, le=1_048_576)] = 512


class FixedPool(_Strict):
    """A pool with a constant number of replicas."""

    replicas: Annotated[Integer, Field(ge=1, le=8)] = 2
    limits: Limits = Limits()


def _spare(value: object) -> object:
    """Raises ValueError: neither a number of places nor a share."""
    number = type(value) is int and 0 <= value <= 1024
    share = isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,2}%", value) is not None
    if not number and not share:
        raise ValueError("a number of places from 0 to 1024, or a share such as '25%'")
    return value


Spare = Annotated[int | str, BeforeValidator(_spare)]


MOST_CALLS = 64
"""How many calls a gateway may be told to take."""


class GatewayPool(_Strict):
    """The gateways: between ``min`` and ``max`` replicas, each of which takes ``calls`` calls."""

    min: Annotated[Integer, Field(ge=1, le=128)] = 1
    max: Annotated[Integer, Field(ge=1, le=128)] = 4
    calls: Annotated[Integer, Field(ge=1, le=MOST_CALLS)] = 4
    spare: Annotated[
        Spare, Field(description="free call places to keep ready: a number, or a share of the calls ('25%')")
    ] = 2
    cooldown_s: Annotated[Number, Field(ge=0, le=86_400)] = 300.0
    limits: Limits = Limits(cpus=2.0, memory_mib=1024)

    @model_validator(mode="after")
    def _min_le_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is greater than max ({self.max})")
        return self


class Pools(_Strict):
    """The pools of the stack."""

    kamailio: FixedPool = FixedPool(limits=Limits(cpus=1.0, memory_mib=512))
    coturn: FixedPool = FixedPool(limits=Limits(cpus=1.0, memory_mib=512))
    scaler: FixedPool = FixedPool(replicas=2, limits=Limits(cpus=1.0, memory_mib=512))
    gateway: GatewayPool = GatewayPool()


GATEWAY_SIDE_SIP_PORT = 5080
"""Where Kamailio listens for the gateways, on the same address as for the world."""


class Sip(_Strict):
    """The SIP side."""

    port: Port = 5060
    trusted: tuple[Subnet, ...] = Field(
        default=(), description="networks that flood and scanner protection leaves alone"
    )
    allow: tuple[Subnet, ...] = Field(
        default=(), description="networks that may call besides the stack's own; empty: everybody"
    )

    @field_validator("port")
    @classmethod
    def _is_free(cls, port: int) -> int:
        if port == GATEWAY_SIDE_SIP_PORT:
            raise ValueError(f"{port} is where Kamailio listens for its gateways; take another")
        return port


class Media(_Strict):
    """Media of the calls."""

    rtp_timeout_s: Annotated[Number, Field(ge=2, le=3600, description="no RTP for so long ends a call")] = (
        30.0
    )
    video_kbps: Annotated[Integer, Field(ge=64, le=20_000, description="video bit rate asked for")] = 1500


OPENSTACK_SUBNET = IPv4Network("10.86.0.0/24")
"""The range of the network that is made for a stack on OpenStack, unless the stack file has another."""


class Network(_Strict):
    """The range of the stack's own network.

    Without it a free /24 is chosen once on Docker, and it is :data:`OPENSTACK_SUBNET` on OpenStack.
    """

    subnet: Subnet | None = None

    @model_validator(mode="after")
    def _is_24(self) -> Self:
        if self.subnet is not None and self.subnet.prefixlen != 24:
            raise ValueError(f"{self.subnet} is not a /24 network")
        return self


def _check_roles(value: object) -> object:
    """Raises ValueError: it names something that is no role."""
    for key in value if isinstance(value, dict) else ():
        if key not in list(Role):
            near = difflib.get_close_matches(str(key), list(Role), n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(Role)}"
            raise ValueError(f"unknown role '{key}'; {hint}")
    return value


CloudName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
ByRole = Annotated[dict[Role, CloudName], BeforeValidator(_check_roles)]


class OpenStack(_Strict):
    """Where and how replicas are made on OpenStack. Names may be ids as well.

    Credentials are never here: they are the ``cloud`` of ``clouds.yaml``, or the environment (``OS_*``).
    """

    cloud: Annotated[
        CloudName | None, Field(description="a cloud of clouds.yaml; without it: OS_* of the environment")
    ] = None
    images: Annotated[
        ByRole, Field(description="by role; without it: smd-ROLE of the version that is deployed")
    ] = {}
    flavors: Annotated[
        ByRole, Field(description="by role; without it: the smallest one that has the pool's limits")
    ] = {}
    key_pair: Annotated[CloudName | None, Field(description="for an operator's SSH to the replicas")] = None
    external_network: Annotated[
        CloudName | None, Field(description="where public addresses come from; without it: the only one")
    ] = None
    network: Annotated[
        CloudName | None,
        Field(description="a network that is there, with a /24, for the stack alone; without it one is made"),
    ] = None
    dns_servers: Annotated[
        tuple[Address, ...],
        Field(description="what replicas ask for names; empty: the cloud's own servers"),
    ] = ()
    ssh_from: Annotated[
        tuple[Subnet, ...],
        Field(description="networks from which SSH to replicas is let in; empty: from nowhere"),
    ] = ()
    api_from: Annotated[
        tuple[Subnet, ...],
        Field(description="networks from which the scalers' API is reached by HTTPS; empty: from nowhere"),
    ] = ()
    zones: Annotated[
        tuple[CloudName, ...], Field(description="availability zones that replicas are spread over")
    ] = ()
    volume_gib: Annotated[
        Annotated[Integer, Field(ge=1, le=1024)] | None,
        Field(description="boot from a volume of so much; without it: from the image"),
    ] = None
    config_drive: Annotated[
        bool, Field(description="replicas read their document from a drive, not from the metadata service")
    ] = False
    public_address: Annotated[
        Literal["none", "floating", "network"],
        Field(description="of gateways: none, a floating IP each, or a port on the external network each"),
    ] = "floating"
    api: Annotated[
        Literal["floating", "none"],
        Field(description="floating: who is in api_from or ssh_from reaches the scalers at a floating IP"),
    ] = "floating"
    service_addresses: Annotated[
        Literal["vrrp", "reassociate"],
        Field(
            description="reassociate: for clouds that allow no address pairs; callers are lost when it moves"
        ),
    ] = "vrrp"

    @property
    def has_public_api(self) -> bool:
        """Whether the scalers have a floating IP: somebody outside may come to their API, or to SSH."""
        return self.api == "floating" and bool(self.api_from or self.ssh_from)


_PROVIDERS = ("docker", "openstack")


class Stack(_Strict):
    """The effective stack: what the user wrote, with every default filled in."""

    name: Name
    domain: DomainName
    provider: Annotated[
        str, Field(description="docker, openstack, or one that is installed beside them (entry point)")
    ] = "docker"
    openstack: Annotated[OpenStack | None, Field(description="for provider openstack only")] = None
    provider_options: Annotated[
        dict[str, Any], Field(description="settings of a provider that is installed beside these")
    ] = {}
    publish: Annotated[
        Address | None,
        Field(description="an address of this host at which others on the network reach the stack"),
    ] = None
    conference: Conference = Conference()
    sip: Sip = Sip()
    turn: Literal["auto", "always", "never"] = "auto"
    media: Media = Media()
    network: Network = Network()
    pools: Pools = Pools()

    @model_validator(mode="before")
    @classmethod
    def _fill_openstack(cls, data: object) -> object:
        if not isinstance(data, dict) or data.get("provider") != "openstack":
            return data
        filled = dict(data)
        if filled.get("openstack") is None:
            filled["openstack"] = {}
        settings, network = filled["openstack"], filled.get("network", {})
        made = isinstance(settings, dict) and settings.get("network") is None
        if made and isinstance(network, dict) and network.get("subnet") is None:
            filled["network"] = {**network, "subnet": OPENSTACK_SUBNET}
        return filled

    @field_validator("provider")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name in _PROVIDERS:
            return name
        others = [entry.name for entry in entry_points(group="sipmediadeploy.providers")]
        known = sorted({*_PROVIDERS, *others})
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
            raise ValueError(f"no such provider is installed; {hint}")
        return name

    @model_validator(mode="after")
    def _fits_the_provider(self) -> Self:
        if self.openstack is not None and self.provider != "openstack":
            raise ValueError(f"openstack is for provider openstack only (it is {self.provider})")
        if self.provider_options and self.provider in _PROVIDERS:
            raise ValueError(f"provider {self.provider} has no provider_options")
        if self.provider == "openstack" and self.publish is not None:
            raise ValueError("publish is for provider docker; openstack has floating IPs")
        return self

    @model_validator(mode="after")
    def _can_publish(self) -> Self:
        if self.publish is not None and (self.publish.is_unspecified or self.publish.is_multicast):
            raise ValueError(f"publish: {self.publish} is no address of a host")
        return self

    @property
    def demo(self) -> bool:
        """Whether the embedded demo conference is part of the stack."""
        return self.conference.url is None


def load_stack(path: Path) -> Stack:
    """Read and validate the stack file at ``path``.

    Raises:
        StackError: the file can't be read, is not YAML, or does not describe a stack.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StackError(f"{path}: no such file. Write one with: smd init") from None
    except (OSError, UnicodeDecodeError) as e:
        raise StackError(f"{path}: can't be read: {e}") from None
    return _with_ca(parse_stack(text, str(path)), path)


def _with_ca(stack: Stack, path: Path) -> Stack:
    """The stack with the certificates of ``conference.ca_file``, which is beside the stack file."""
    conference = stack.conference
    if conference.ca_file is None or conference.ca is not None:
        return stack
    file = path.parent / conference.ca_file
    try:
        ca = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as e:
        raise StackError(f"{path}: 'conference.ca_file': {file} can't be read: {e}") from None
    if "BEGIN CERTIFICATE" not in ca:
        raise StackError(f"{path}: 'conference.ca_file': {file} holds no certificates in PEM form")
    return stack.model_copy(update={"conference": conference.model_copy(update={"ca": ca})})


def parse_stack(text: str, source: str = "stack.yaml") -> Stack:
    """Validate the text of a stack file; ``source`` names it in errors.

    Raises:
        StackError: see :func:`load_stack`. Every problem found is listed, a line each.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            duplicate = _duplicate_key(node)  # Before construction, which writes merged keys into the nodes.
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise StackError(f"{where}: not valid YAML: {e.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise StackError(f"{source}: not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise StackError(f"{source}: expected keys such as 'name: demo' and 'domain: sip.example.org'")
    if duplicate is not None:
        key, line = duplicate
        raise StackError(f"{source}:{line}: key '{key}' is there twice; keep one")
    try:
        return Stack.model_validate(data)
    except ValidationError as e:
        raise StackError("\n".join(_explain(error, node, source) for error in e.errors())) from None


def _duplicate_key(root: yaml.Node | None) -> tuple[str, int] | None:
    """The first key that is twice in one mapping, and its line; an alias is looked at once."""
    pending, visited = [root], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        return str(key.value), key.start_mark.line + 1
                    seen.add(key.value)
                pending.append(value)
        elif isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
    return None


def _explain(error: ErrorDetails, node: yaml.Node | None, source: str) -> str:
    loc = tuple(part for part in error["loc"] if isinstance(part, str | int))
    dotted = ".".join(str(part) for part in loc) or "the stack"
    where = f"{source}:{_line(node, loc)}"
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"valid here: {', '.join(valid)}"
        return f"{where}: unknown key '{dotted}'; {hint}"
    if error["type"] == "missing":
        return f"{where}: '{dotted}' is missing"
    if error["type"] in ("model_type", "model_attributes_type"):
        below = ", ".join(_valid_keys(loc))
        return f"{where}: '{dotted}' needs keys below it (remove it otherwise); valid: {below}"
    message = re.sub(r"^Value error, ", "", error["msg"])
    shown = error["input"]
    value = f" (it is {shown!r})" if isinstance(shown, str | int | float | bool | None) else ""
    return f"{where}: '{dotted}': {message}{value}"


def _line(node: yaml.Node | None, loc: tuple[str | int, ...]) -> int:
    line = node.start_mark.line + 1 if node is not None else 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _valid_keys(loc: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Stack
    for part in loc:
        field = model.model_fields.get(str(part))
        annotation: Any = field.annotation if field is not None else None
        if get_origin(annotation) in (Union, types.UnionType):  # a section that need not be there
            annotation = next((one for one in get_args(annotation) if one is not type(None)), None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
