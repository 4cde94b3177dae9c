"""What a gateway counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sipmediadeploy.gateway.reasons import EndReason

_SETUP_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20)
_DURATION_S = (10, 60, 300, 900, 1800, 3600, 7200, 14400, 28800)


class GatewayMetrics:
    """One gateway's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.ended = Counter(
            "smd_gateway_calls_ended", "Calls by the way they ended", ["reason"], registry=self.registry
        )
        for reason in EndReason:
            self.ended.labels(reason.value)
        self.setup = Histogram(
            "smd_gateway_call_setup_seconds",
            "From INVITE to 200 OK",
            buckets=_SETUP_S,
            registry=self.registry,
        )
        self.duration = Histogram(
            "smd_gateway_call_duration_seconds",
            "From 200 OK to the end",
            buckets=_DURATION_S,
            registry=self.registry,
        )
        self.undelivered = Counter(
            "smd_gateway_requests_undelivered",
            "Requests in a call that nobody answered",
            ["method"],
            registry=self.registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when asked for."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
