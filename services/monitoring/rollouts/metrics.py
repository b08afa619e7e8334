"""The analyser's instruments. Labels are pipelines with a rollout, and guards."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from headrace.releases.ladder import Answer
from services.monitoring.rollouts.judgement import Judgement


class RolloutMetrics:
    """An `Observer` for Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._weight = Gauge(
            "headrace_rollout_weight", "Share of the canary, from 0 to 1.", ("pipeline",), registry=registry
        )
        self._evidence = Gauge(
            "headrace_rollout_evidence_ratio",
            "Evidence over what is needed, by kind (harm, fine); 1 or more: proven.",
            ("pipeline", "guard", "kind"),
            registry=registry,
        )
        self._sample_ratio = Gauge(
            "headrace_rollout_sample_ratio_evidence",
            "Evidence that arms do not get the shares that their weights say; alarm at 1000.",
            ("pipeline",),
            registry=registry,
        )
        self._failures = Counter(
            "headrace_rollout_failures", "What did not work.", ("kind",), registry=registry
        )
        self._leads = Gauge(
            "headrace_rollout_leads", "1 if this analyser holds the lease.", registry=registry
        )
        self._guards: dict[str, set[str]] = {}

    def looked(self, pipeline: str, judgement: Judgement, answer: Answer) -> None:
        """See ports.Observer."""
        self._weight.labels(pipeline).set(answer.weight)
        self._sample_ratio.labels(pipeline).set(judgement.ratio_e)
        for guard in judgement.guards:
            self._guards.setdefault(pipeline, set()).add(guard.name)
            self._evidence.labels(pipeline, guard.name, "harm").set(guard.harm_e / guard.harm_threshold)
            self._evidence.labels(pipeline, guard.name, "fine").set(guard.fine_e / guard.fine_threshold)

    def failed(self, kind: str) -> None:
        """See ports.Observer."""
        self._failures.labels(kind).inc()

    def leading(self, leads: bool) -> None:
        """See ports.Observer."""
        self._leads.set(leads)

    def gone(self, pipeline: str) -> None:
        """See ports.Observer."""
        if pipeline not in self._guards:
            return
        self._weight.remove(pipeline)
        self._sample_ratio.remove(pipeline)
        for guard in self._guards.pop(pipeline):
            for kind in ("harm", "fine"):
                self._evidence.remove(pipeline, guard, kind)
