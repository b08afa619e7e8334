"""Instruments of the features service."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.features.cache.cache import Memory
from services.features.freshness.freshness import Judged, Source
from services.features.freshness.judging import Ages, JudgedColumns

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
_AGES_US = [edge * _MICRO for edge in _AGES_S]
_EDGES_US = np.array(_AGES_US, np.int64)
_SOURCES = [int(source) for source in Source]


class Tally(Collector):
    """Rows by view and source, and their ages (seconds) by view. Counted for a batch at once: at a call per row,
    prometheus_client's own counters and histograms would take longer than reading the rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sources: dict[str, list[int]] = {}
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def add(self, view: str, sources: bytes, ages_us: list[int]) -> None:
        """One byte (a Source) and one age in microseconds per row; negative ones are no ages."""
        counts = self._count(view, sources)
        if not sources:
            return
        youngest = min(ages_us)
        first = bisect_left(_AGES_US, youngest)
        if youngest >= 0 and first == bisect_left(_AGES_US, max(ages_us)):
            # All in one bucket, as many ages are.
            counts[first] += len(ages_us)
            self._sums[view] += sum(ages_us) / _MICRO
            return
        # Where each bucket ends among the ages in order; at their beginning are those that are none.
        ordered = sorted(ages_us)
        place = bisect_left(ordered, 0)
        self._sums[view] += sum(ordered[place:]) / _MICRO
        for bucket, edge in enumerate(_AGES_US):
            end = bisect_right(ordered, edge, place)
            counts[bucket] += end - place
            place = end
        counts[-1] += len(ordered) - place

    def add_all(self, view: str, sources: bytes, ages: Ages) -> None:
        """The same of an array, of one row or more."""
        counts = self._count(view, sources)
        each, youngest, total = ages.each, ages.least, ages.total
        if youngest < 0:
            each = each[each >= 0]
            total += len(ages.each) - len(each)
            youngest = int(each.min()) if len(each) else 0
        self._sums[view] += total / _MICRO
        first = bisect_left(_AGES_US, youngest)
        if first == bisect_left(_AGES_US, ages.greatest):
            counts[first] += len(each)
            return
        for bucket, count in enumerate(np.bincount(np.searchsorted(_EDGES_US, each)).tolist()):
            counts[bucket] += count

    def _count(self, view: str, sources: bytes) -> list[int]:
        """Counts the sources; the view's ages."""
        by_source = self._sources.get(view)
        if by_source is None:
            by_source = self._sources[view] = [0] * (len(Source) + 1)
            self._counts[view] = [0] * (len(_AGES_S) + 1)
            self._sums[view] = 0.0
        if len(sources) == 1:
            by_source[sources[0]] += 1
        elif sources:
            for source in _SOURCES:
                by_source[source] += sources.count(source)
        return self._counts[view]

    def collect(self) -> Iterable[Metric]:
        """The families, as Prometheus scrapes them."""
        rows = CounterMetricFamily(
            "headrace_features_rows",
            "Rows served, by view and by where their values came from.",
            labels=["view", "source"],
        )
        ages = HistogramMetricFamily(
            "headrace_features_age_seconds", "Age of the feature values served, by view.", labels=["view"]
        )
        labels = [*[str(float(e)) for e in _AGES_S], "+Inf"]
        for view, by_source in list(self._sources.items()):
            for source in Source:
                if by_source[source]:
                    rows.add_metric([view, source.name.lower()], by_source[source])
            buckets = list(zip(labels, accumulate(self._counts[view]), strict=True))
            ages.add_metric([view], buckets, self._sums[view])
        return [rows, ages]


class FeaturesMetrics:
    """All instruments; views and feature services come from the registry, so their labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tally = Tally(registry)
        self.read_seconds = Histogram(
            "headrace_features_read_seconds",
            "Time of a read of the store, for all views of a batch.",
            buckets=_READS_S,
            registry=registry,
        )
        self.store_errors = Counter(
            "headrace_features_store_errors",
            "Reads that failed: timeout, store, breaker_open.",
            ["kind"],
            registry=registry,
        )
        self._entries = Gauge("headrace_features_memory_rows", "Rows kept in memory.", registry=registry)
        self._bytes = Gauge(
            "headrace_features_memory_bytes", "Their size in bytes, by estimate.", registry=registry
        )
        keys = Counter(
            "headrace_features_keys",
            "Keys of entities looked up, by where their rows came from: memory, a read for another call, the store.",
            ["from"],
            registry=registry,
        )
        self._current, self._joined, self._read = map(keys.labels, ("memory", "flight", "store"))
        self.ahead = Gauge(
            "headrace_features_ahead_seconds",
            "How far in the future the last row with such an event time was: clocks disagree.",
            ["view"],
            registry=registry,
        )
        self._stock = Counter(
            "headrace_features_stock_reads",
            "Batches that only Feast itself could read, several times slower.",
            registry=registry,
        )
        self._events = Counter(
            "headrace_features_events",
            "Feature events consumed: written, older (the store had newer ones), rejected.",
            ["outcome"],
            registry=registry,
        )
        self._underived = Counter(
            "headrace_features_underived_rows",
            "Rows for which the function of an on-demand feature view failed.",
            ["view"],
            registry=registry,
        )
        self.refreshes = Counter(
            "headrace_features_refreshes", "Readings of the registry.", ["outcome"], registry=registry
        )

    def watch(self, memory: Memory) -> None:
        """Shows how full it is."""
        self._entries.set_function(lambda: len(memory))
        self._bytes.set_function(lambda: memory.size_bytes + memory.absent_bytes)

    def read(self, seconds: float, error: str) -> None:
        """See fetching.Observer."""
        if error:
            self.store_errors.labels(error).inc()
        if error != "breaker_open":
            self.read_seconds.observe(seconds)

    def found(self, current: int, joined: int, read: int) -> None:
        """See fetching.Observer."""
        if current:
            self._current.inc(current)
        if joined:
            self._joined.inc(joined)
        if read:
            self._read.inc(read)

    def stock(self, seconds: float, error: str) -> None:
        """See reading.Observer."""
        self._stock.inc()
        self.read(seconds, error)

    def consumed(self, outcome: str, count: int) -> None:
        """See consuming.Observer."""
        self._events.labels(outcome).inc(count)

    def underived(self, view: str, rows: int) -> None:
        """See deriving.Observer."""
        self._underived.labels(view).inc(rows)

    def served(self, judged: Judged) -> None:
        """See reading.Observer."""
        view = judged.view.name
        if isinstance(judged, JudgedColumns):
            self._tally.add_all(view, judged.sources, judged.ages)
        else:
            self._tally.add(view, judged.sources, judged.ages_us)
        if judged.ahead_s:
            self.ahead.labels(view).set(judged.ahead_s)
