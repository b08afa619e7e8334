"""The instruments of accuracy. Labels are pipelines and versions, at most so many of each: callers choose none of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.monitoring.accuracy.figures import QUANTILES, VersionFigures

# Versions of a pipeline that have gauges, the newest.
MOST_VERSIONS = 8
MOST_PIPELINES = 256
_VERSION = ("pipeline", "version")


class AccuracyMetrics:
    """Gauges of the newest look at all versions. What is not known has no gauge."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        # By the field of VersionFigures.
        self._shares = {
            "coverage": gauge(
                "headrace_outcomes_coverage",
                "Share of the predictions with a label, of windows so old that most labels should be there.",
                _VERSION,
            ),
            "accuracy": gauge(
                "headrace_outcomes_accuracy",
                "Share of right predictions, of windows with labels enough.",
                _VERSION,
            ),
            "expected_accuracy": gauge(
                "headrace_outcomes_expected_accuracy",
                "Accuracy that the model itself expects without labels, where its baseline says that it is calibrated.",
                _VERSION,
            ),
        }
        self._delay = gauge(
            "headrace_outcomes_delay_seconds",
            "How long after the answer a label came at the latest, for this share of the labels.",
            (*_VERSION, "share"),
        )
        self.wanted = gauge(
            "headrace_outcomes_coverage_wanted",
            "Share of a window's predictions that must have a label, so that its accuracy counts.",
        )
        self.predictions = counter("headrace_outcomes_predictions", "Predictions that wait for a label.")
        self.left_out = counter(
            "headrace_outcomes_left_out_predictions",
            "Predictions that were not recorded, as there were too many.",
        )

    def looked(self, found: Sequence[VersionFigures]) -> None:
        """Sets all gauges anew. `found`: the newest version of a pipeline first."""
        for gauge in (*self._shares.values(), self._delay):
            gauge.clear()
        counts: dict[str, int] = {}
        for version in found:
            counts[version.pipeline] = counts.get(version.pipeline, 0) + 1
            if counts[version.pipeline] <= MOST_VERSIONS and len(counts) <= MOST_PIPELINES:
                self._set(version)

    def _set(self, version: VersionFigures) -> None:
        labels = (version.pipeline, version.version)
        for name, gauge in self._shares.items():
            if (value := getattr(version, name)) is not None:
                gauge.labels(*labels).set(value)
        for quantile, delay in zip(QUANTILES, version.delays_s or (), strict=False):
            self._delay.labels(*labels, str(quantile)).set(delay)
