"""What the scaler counts, for Prometheus; ``deploy/prometheus/alerts.yml`` has alert rules on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sipmediadeploy.scaler.model import Action, Condition
from sipmediadeploy.stack import Role

_PROBE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5)
_FAILOVER_BUCKETS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a step of the loop saw of the stack."""

    conditions: Mapping[tuple[Role, Condition], int] = field(default_factory=dict)
    """How many replicas there are, by role and condition."""
    holders: Mapping[Role, str] = field(default_factory=dict)
    """By role: the one replica that says that it holds the service address."""
    inventory_age_s: float | None = None
    step_s: float = 0.0
    """How long the step took."""


NOTHING_SEEN = Sight()


class Metrics:
    """One scaler's registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._leading = Gauge("smd_scaler_leading", "1 when this scaler leads", registry=registry)
        self._term = Gauge("smd_scaler_term", "term of its lease; 0 without one", registry=registry)
        self._paused = Gauge("smd_scaler_paused", "1 while scalers watch only", registry=registry)
        self._problems = Gauge("smd_scaler_problems", "what is not as it should be", registry=registry)
        self._replicas = Gauge(
            "smd_scaler_replicas",
            "by what is made of them",
            ["role", "condition"],
            registry=registry,
        )
        self._age = Gauge(
            "smd_scaler_inventory_age_seconds", "since the inventory was read", registry=registry
        )
        self._step = Gauge("smd_scaler_step_seconds", "what the last step took", registry=registry)
        self._probes = Histogram(
            "smd_scaler_probe_seconds",
            "time to an agent's answer",
            ["role"],
            buckets=_PROBE_BUCKETS,
            registry=registry,
        )
        self._lost = Counter("smd_scaler_probes_lost", "without answer", ["role"], registry=registry)
        self._actions = Counter("smd_scaler_actions", "by result", ["kind", "result"], registry=registry)
        self._failovers = Histogram(
            "smd_scaler_failover_seconds",
            "from the last answer of the old holder of a service address to the first one of the new",
            ["role"],
            buckets=_FAILOVER_BUCKETS,
            registry=registry,
        )
        self._held: dict[Role, tuple[str, float]] = {}

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def action(self, phase: str, action: Action, _error: str) -> None:
        """See :data:`~sipmediadeploy.scaler.act.Event`."""
        if phase != "started":
            self._actions.labels(action.kind, phase).inc()

    def probe(self, role: Role, seconds: float | None) -> None:
        """An agent answered after ``seconds``; None: it did not."""
        if seconds is None:
            self._lost.labels(role).inc()
        else:
            self._probes.labels(role).observe(seconds)

    def step(self, now: float, leading: bool, term: int, paused: bool, problems: int, sight: Sight) -> None:
        """What a step made of it; ``now``: the loop's clock."""
        self._leading.set(leading)
        self._term.set(term)
        self._paused.set(paused)
        self._problems.set(problems)
        self._step.set(sight.step_s)
        if sight.inventory_age_s is not None:
            self._age.set(sight.inventory_age_s)
        self._replicas.clear()
        for (role, condition), number in sight.conditions.items():
            self._replicas.labels(role, condition).set(number)
        for role, name in sight.holders.items():
            before, at = self._held.get(role, (name, now))
            if before != name:
                self._failovers.labels(role).observe(now - at)
            self._held[role] = name, now
