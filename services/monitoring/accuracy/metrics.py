"""The instruments of accuracy. Labels are pipelines and versions, at most so many of each: callers choose none of them."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.monitoring.accuracy.figures import QUANTILES, VersionFigures

# Versions of a pipeline that have gauges, the newest.
MOST_VERSIONS = 8
MOST_PIPELINES = 256
_VERSION = ("pipeline", "version")


class AccuracyMetrics:
    """Gauges of the newest look at all versions. What is not known has no gauge."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._coverage = Gauge(
            "headrace_outcomes_coverage",
            "Share of the predictions with a label, of windows so old that most labels should be there.",
            _VERSION,
            registry=registry,
        )
        self.wanted = Gauge(
            "headrace_outcomes_coverage_wanted",
            "Share of a window's predictions that must have a label, so that its accuracy counts.",
            registry=registry,
        )
        self._accuracy = Gauge(
            "headrace_outcomes_accuracy",
            "Share of right predictions, of windows with labels enough.",
            _VERSION,
            registry=registry,
        )
        self._expected = Gauge(
            "headrace_outcomes_expected_accuracy",
            "Accuracy that the model itself expects without labels, where its baseline says that it is calibrated.",
            _VERSION,
            registry=registry,
        )
        self._delay = Gauge(
            "headrace_outcomes_delay_seconds",
            "How long after the answer a label came at the latest, for this share of the labels.",
            (*_VERSION, "share"),
            registry=registry,
        )
        self.predictions = Counter(
            "headrace_outcomes_predictions", "Predictions that wait for a label.", registry=registry
        )
        self.left_out = Counter(
            "headrace_outcomes_left_out_predictions",
            "Predictions that were not recorded, as there were too many.",
            registry=registry,
        )

    def looked(self, found: Sequence[VersionFigures]) -> None:
        """Sets all gauges anew. `found`: the newest version of a pipeline first."""
        for gauge in (self._coverage, self._accuracy, self._expected, self._delay):
            gauge.clear()
        counts: dict[str, int] = {}
        for version in found:
            counts[version.pipeline] = counts.get(version.pipeline, 0) + 1
            if counts[version.pipeline] <= MOST_VERSIONS and len(counts) <= MOST_PIPELINES:
                self._set(version)

    def _set(self, version: VersionFigures) -> None:
        labels = (version.pipeline, version.version)
        for gauge, value in (
            (self._coverage, version.coverage),
            (self._accuracy, version.accuracy),
            (self._expected, version.expected),
        ):
            if value is not None:
                gauge.labels(*labels).set(value)
        for quantile, delay in zip(QUANTILES, version.delays_s or (), strict=False):
            self._delay.labels(*labels, str(quantile)).set(delay)
