"""The executor's instruments. Labels are the models and versions that are loaded, their backends and canonical codes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (
    50e-6,
    100e-6,
    200e-6,
    400e-6,
    800e-6,
    1.6e-3,
    3e-3,
    6e-3,
    12e-3,
    25e-3,
    50e-3,
    0.1,
    0.25,
    1.0,
    5.0,
)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_LABELS = ("model", "version")


class Distribution:
    """A histogram without locks, for one thread. A locked one takes a hundred times longer than this."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def clear(self) -> None:
        self.counts = [0] * len(self.counts)
        self.sum = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds and cumulative counts, in the form that Prometheus expects."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class Tally:
    """The counts of one version of a model. Written on the event loop only; read by scrapes on other threads."""

    __slots__ = ("batch_rows", "codes", "queue_rows", "queue_seconds", "run_seconds")

    def __init__(self) -> None:
        self.run_seconds = Distribution(_SECONDS)
        self.queue_seconds = Distribution(_SECONDS)
        self.batch_rows = Distribution(_ROWS)
        # Canonical code → rows answered with it.
        self.codes: dict[str, int] = {}
        self.queue_rows = 0

    def clear(self) -> None:
        """Sets all counts to zero."""
        for distribution in (self.run_seconds, self.queue_seconds, self.batch_rows):
            distribution.clear()
        self.codes.clear()

    def answered(self, code: str, rows: int) -> None:
        self.codes[code] = self.codes.get(code, 0) + rows


class Tallies(Collector):
    """The tallies of loaded versions, and of those unloaded last."""

    _KEPT = 256

    def __init__(self) -> None:
        self._by_version: dict[tuple[str, str], Tally] = {}

    def of(self, model: str, version: str) -> Tally:
        """The tally of a version. A version that is loaded again continues its tally."""
        tally = self._by_version.pop((model, version), None) or Tally()
        self._by_version[model, version] = tally
        if len(self._by_version) > self._KEPT:
            del self._by_version[next(iter(self._by_version))]
        return tally

    def clear(self) -> None:
        """Sets all counts to zero, after the warm-up calls."""
        for tally in self._by_version.values():
            tally.clear()

    def collect(self) -> Iterable[Metric]:
        items = list(self._by_version.items())
        rows = CounterMetricFamily(
            "headrace_executor_rows", "Rows answered, by canonical code.", labels=(*_LABELS, "code")
        )
        waiting = GaugeMetricFamily(
            "headrace_executor_queue_rows", "Rows that wait for a run.", labels=_LABELS
        )
        for (model, version), tally in items:
            for code, count in list(tally.codes.items()):
                rows.add_metric((model, version, code), count)
            waiting.add_metric((model, version), tally.queue_rows)
        yield rows
        yield waiting
        yield from self._histograms(items)

    def _histograms(self, items: Sequence[tuple[tuple[str, str], Tally]]) -> Iterator[Metric]:
        for name, text in (
            ("run_seconds", "Time of one run of a model."),
            ("queue_seconds", "Time that the rows of one call waited for their run."),
            ("batch_rows", "Rows in one run."),
        ):
            family = HistogramMetricFamily(f"headrace_executor_{name}", text, labels=_LABELS)
            for labels, tally in items:
                distribution: Distribution = getattr(tally, name)
                family.add_metric(labels, distribution.buckets(), distribution.sum)
            yield family


class Metrics:
    """All instruments of the service, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tallies = Tallies()
        registry.register(self.tallies)
        self.cold_starts = Counter(
            "headrace_executor_cold_starts_total",
            "Activations: versions made ready, at the start, by an operator (`load`), or because a call came (`call`).",
            [*_LABELS, "why"],
            registry=registry,
        )
        self.load_seconds = Gauge(
            "headrace_executor_load_seconds",
            "Time that the last load of a version took, warm-up included.",
            _LABELS,
            registry=registry,
        )
        self.loaded_models = Gauge(
            "headrace_executor_loaded_models", "Versions that are loaded.", registry=registry
        )
        self.memory_bytes = Gauge(
            "headrace_executor_memory_bytes",
            "Memory of the versions that are active: by how much a process grew with each.",
            registry=registry,
        )
        self.quarantined = Gauge(
            "headrace_executor_quarantined",
            "1 for a version that should serve and can't be used; the log and `headrace status` say why.",
            _LABELS,
            registry=registry,
        )
        self.unsaved = Gauge(
            "headrace_executor_unsaved",
            "1 while what is served, or who loaded it, can't be written to the disk.",
            registry=registry,
        )
        self.evictions = Counter(
            "headrace_executor_evictions_total",
            "Versions put into the warm pool to stay within the memory budget.",
            _LABELS,
            registry=registry,
        )
        self.failovers = Counter(
            "headrace_executor_failovers_total",
            "Moves of a version from one backend to another.",
            [*_LABELS, "from", "to"],
            registry=registry,
        )
        self.probes = Counter(
            "headrace_executor_probes_total",
            "Tries of a lost backend, and whether it was well.",
            [*_LABELS, "backend", "well"],
            registry=registry,
        )
        self.backend = Gauge(
            "headrace_executor_backend_active",
            "1 for the backend that runs the version, 0 for those that stand by.",
            [*_LABELS, "backend"],
            registry=registry,
        )
