"""Which role a replica has."""

from __future__ import annotations

from sipmediadeploy.node.roles.base import NodeRole
from sipmediadeploy.node.roles.conference_demo.role import ConferenceDemoRole
from sipmediadeploy.node.roles.coturn.role import CoturnRole
from sipmediadeploy.node.roles.gateway.role import GatewayRole
from sipmediadeploy.node.roles.kamailio.role import KamailioRole
from sipmediadeploy.node.roles.scaler.role import ScalerRole
from sipmediadeploy.protocol.agent import Gateways
from sipmediadeploy.protocol.replica import (
    ConferenceDemoService,
    CoturnService,
    GatewayService,
    KamailioService,
    ReplicaDocument,
    ScalerService,
)


def role_of(document: ReplicaDocument, interface: str, gateways: Gateways) -> NodeRole:
    """The role that ``document`` describes; ``gateways`` is the list that a kamailio starts with."""
    match document.service:
        case KamailioService() as service:
            return KamailioRole(document, service, interface, gateways)
        case CoturnService() as service:
            return CoturnRole(document, service, interface)
        case GatewayService() as service:
            return GatewayRole(document, service)
        case ConferenceDemoService() as service:
            return ConferenceDemoRole(document, service)
        case ScalerService():
            return ScalerRole(document)
