"""Instruments of the features service."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.hop.metrics import Counter, Histogram
from services.features.freshness.freshness import Source, ViewResult

# From one second to three months, about three buckets per power of ten.
_DAY_S = 86400
_AGES_S = [1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, *[n * _DAY_S for n in (1, 2, 7, 30, 90)]]
_READS_S = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]
_MICRO = 1_000_000
_EDGES_US = np.array(_AGES_S, np.int64) * _MICRO
_COUNTED_AT_ONCE = 2048


class RowMetrics(Collector):
    """Rows by view and source, and their ages (seconds) by view.

    Many results are counted together, at the latest when Prometheus scrapes: one call per row to the counters and histograms
    of prometheus_client would take longer than reading the row.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sources: dict[str, NDArray[np.int64]] = {}
        self._ages: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._uncounted: deque[tuple[str, bytes, NDArray[np.int64]]] = deque()
        self._uncounted_rows = 0
        # Results come from the event loop, and Prometheus may scrape from another thread.
        self._lock = Lock()
        self._ahead = Gauge(
            "headrace_features_ahead_seconds",
            "How far in the future the last row with such an event time was: clocks disagree.",
            ["view"],
            registry=registry,
        )
        registry.register(self)

    def add(self, results: Sequence[ViewResult]) -> None:
        append = self._uncounted.append
        for one in results:
            append((one.view.name, one.sources, one.ages_us))
            if one.ahead_s:
                self._ahead.labels(one.view.name).set(one.ahead_s)
        self._uncounted_rows += len(results) * (1 + len(results[0].sources))
        if self._uncounted_rows > _COUNTED_AT_ONCE:
            self._uncounted_rows = 0
            self._count()

    def _count(self) -> None:
        with self._lock:
            by_view: dict[str, list[tuple[bytes, NDArray[np.int64]]]] = {}
            while self._uncounted:
                view, its_sources, its_ages = self._uncounted.popleft()
                by_view.setdefault(view, []).append((its_sources, its_ages))
            for view, parts in by_view.items():
                sources = np.frombuffer(b"".join([its for its, _ in parts]), np.uint8)
                ages_us = np.concatenate([its for _, its in parts])
                ages_us = ages_us[ages_us >= 0]
                buckets = np.searchsorted(_EDGES_US, ages_us)
                self._sources.setdefault(view, _zeros(len(Source) + 1))
                self._sources[view] += np.bincount(sources, minlength=len(Source) + 1)
                self._ages.setdefault(view, _zeros(len(_EDGES_US) + 1))
                self._ages[view] += np.bincount(buckets, minlength=len(_EDGES_US) + 1)
                self._sums[view] = self._sums.get(view, 0.0) + ages_us.sum() / _MICRO

    def collect(self) -> Iterable[Metric]:
        rows = CounterMetricFamily(
            "headrace_features_rows",
            "Rows served, by view and by where their values came from.",
            labels=["view", "source"],
        )
        ages = HistogramMetricFamily(
            "headrace_features_age_seconds", "Age of the feature values served, by view.", labels=["view"]
        )
        labels = [*[str(float(e)) for e in _AGES_S], "+Inf"]
        self._count()
        for view, by_source in list(self._sources.items()):
            for source in Source:
                if by_source[source]:
                    rows.add_metric([view, source.name.lower()], int(by_source[source]))
            buckets = list(zip(labels, np.cumsum(self._ages[view]).tolist(), strict=True))
            ages.add_metric([view], buckets, self._sums[view])
        return [rows, ages]


def _zeros(count: int) -> NDArray[np.int64]:
    return np.zeros(count, np.int64)


class FeaturesMetrics:
    """All instruments; views and feature services come from the registry, so their labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self._rows = RowMetrics(registry)
        self.read_seconds = Histogram(
            "headrace_features_read_seconds",
            "Time of a read of the store, for all views of a batch.",
            buckets=_READS_S,
            registry=registry,
        )
        self.store_errors = counter(
            "headrace_features_store_errors", "Reads that failed: timeout, store, breaker_open.", ["kind"]
        )
        keys = counter(
            "headrace_features_keys",
            "EntityKeys of entities looked up, by where their rows came from: memory, a read for another call, the store.",
            ["from"],
        )
        self._current, self._joined, self._read = map(keys.labels, ("memory", "flight", "store"))
        self._events = counter(
            "headrace_features_events",
            "Feature events consumed: written, older (the store had newer ones), rejected.",
            ["outcome"],
        )
        self._underived = counter(
            "headrace_features_underived_rows",
            "Rows for which the function of an on-demand feature view failed.",
            ["view"],
        )

    def read(self, seconds: float, error: str) -> None:
        """A read of the store ended; `error`: "" or what went wrong (timeout, store, breaker_open)."""
        if error:
            self.store_errors.labels(error).inc()
        if error != "breaker_open":
            self.read_seconds.observe(seconds)

    def found(self, current: int, joined: int, read: int) -> None:
        """Numbers of keys: current in memory, already being read for another call, and read from the store for this one."""
        if current:
            self._current.inc(current)
        if joined:
            self._joined.inc(joined)
        if read:
            self._read.inc(read)

    def consumed(self, outcome: str, count: int) -> None:
        """The outcome of `count` events: `written`, `older` (than the row in the store) or `rejected`."""
        self._events.labels(outcome).inc(count)

    def underived(self, view: str, rows: int) -> None:
        self._underived.labels(view).inc(rows)

    def served(self, results: Sequence[ViewResult]) -> None:
        if results:
            self._rows.add(results)
