"""Instruments of the features service."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from services.features.shaping import Shaped, Source

# From a second to three months, in thirds of a decade or so.
_AGES_S = [
    1,
    5,
    15,
    60,
    300,
    900,
    3600,
    4 * 3600,
    12 * 3600,
    86400,
    2 * 86400,
    7 * 86400,
    30 * 86400,
    90 * 86400,
]
_READS_S = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]
_MICRO = 1_000_000


class AgeHistogram(Collector):
    """Ages of served rows by view (seconds). A batch's rows are counted at once: `observe` per row costs 1 µs each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._edges = np.array(_AGES_S, float)
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, view: str, ages_us: NDArray[np.int64]) -> None:
        """Adds ages in microseconds; negative ones are no ages."""
        ages = ages_us[ages_us >= 0] / _MICRO
        places = np.searchsorted(self._edges, ages)
        counts = self._counts.setdefault(view, np.zeros(len(self._edges) + 1, np.int64))
        counts += np.bincount(places, minlength=len(counts))
        self._sums[view] = self._sums.get(view, 0.0) + float(ages.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The family, as Prometheus scrapes it."""
        family = HistogramMetricFamily(
            "headrace_features_age_seconds", "Age of the feature values served, by view.", labels=["view"]
        )
        labels = [*[str(float(e)) for e in self._edges], "+Inf"]
        for view, counts in list(self._counts.items()):
            buckets = list(zip(labels, counts.cumsum().tolist(), strict=True))
            family.add_metric([view], buckets, self._sums[view])
        return [family]


class FeaturesMetrics:
    """All instruments; views and feature services come from the registry, so their labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "headrace_features_rows",
            "Rows served, by view and by where their values came from.",
            ["view", "source"],
            registry=registry,
        )
        self.ages = AgeHistogram(registry)
        self.read_seconds = Histogram(
            "headrace_features_read_seconds",
            "Time to read all views of a batch from the store.",
            buckets=_READS_S,
            registry=registry,
        )
        self.store_errors = Counter(
            "headrace_features_store_errors",
            "Batches not read: timeout, store, breaker_open.",
            ["kind"],
            registry=registry,
        )
        self.remembered = Gauge(
            "headrace_features_remembered_rows", "Last-known rows kept for an outage.", registry=registry
        )
        self.refreshes = Counter(
            "headrace_features_refreshes", "Readings of the registry.", ["outcome"], registry=registry
        )

    def read(self, seconds: float, error: str) -> None:
        """See reading.Observer."""
        if error:
            self.store_errors.labels(error).inc()
        if error != "breaker_open":
            self.read_seconds.observe(seconds)

    def served(self, view: str, shaped: Shaped) -> None:
        """See reading.Observer."""
        counts = np.bincount(shaped.sources, minlength=len(Source) + 1).tolist()
        for source in Source:
            if counts[source]:
                self.rows.labels(view, source.name.lower()).inc(counts[source])
        self.ages.observe(view, shaped.ages_us)
