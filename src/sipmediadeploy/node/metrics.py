"""What the agent counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from sipmediadeploy.protocol.agent import State, Status

CONTENT_TYPE = CONTENT_TYPE_LATEST


def metrics_text(status: Status, service_restarts: Mapping[str, int], address_taken: int = 0) -> bytes:
    """The metrics of a replica that is in ``status``.

    ``service_restarts``: how often each of its services died; ``address_taken``: how often the service
    address came to it.
    """
    registry = CollectorRegistry()
    state = Gauge("smd_replica_state", "1 for the state that the replica is in", ["state"], registry=registry)
    for each in State:
        state.labels(each.value).set(each is status.state)
    Gauge("smd_calls", "calls now", registry=registry).set(status.calls)
    Gauge("smd_capacity", "calls that the replica takes", registry=registry).set(status.capacity)
    Gauge("smd_uptime_seconds", "since the agent was started", registry=registry).set(status.uptime_s)
    Gauge("smd_term", "highest scaler's term seen", registry=registry).set(status.term)
    if status.active is not None:
        active = Gauge("smd_active", "1 when it holds the service address, or leads", registry=registry)
        active.set(status.active)
    taken = Counter("smd_address_taken", "how often the service address came here", registry=registry)
    taken.inc(address_taken)
    restarts = Counter("smd_service_restarts", "services that died", ["service"], registry=registry)
    for service, count in service_restarts.items():
        restarts.labels(service).inc(count)
    return generate_latest(registry)
