"""The executor's instruments. Labels are the models and versions that are loaded, their backends and canonical codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.metrics import Counter, Histogram

_SECONDS = (50e-6, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3e-3, 6e-3, 12e-3, 25e-3, 50e-3, 0.1, 0.25, 1.0, 5.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_LABELS = ("model", "version")
# Versions that are in a scrape: the loaded ones, and those unloaded last.
_MAX_VERSIONS = 256


class VersionMetrics:
    """The instruments of one version of a model. They count on the event loop only."""

    def __init__(self, families: Metrics, labels: tuple[str, str]) -> None:
        self._families, self._labels = families, labels
        self.answered = families.rows.labels(*labels, "OK")
        self._failed: dict[str, Counter] = {}
        self.queue_rows = families.queue_rows.labels(*labels)
        self.run_seconds = families.run_seconds.labels(*labels)
        self.queue_seconds = families.queue_seconds.labels(*labels)
        self.batch_rows = families.batch_rows.labels(*labels)

    def failed(self, code: str, rows: int) -> None:
        """Rows were answered with a canonical code other than OK."""
        if code not in self._failed:
            self._failed[code] = self._families.rows.labels(*self._labels, code)
        self._failed[code].inc(rows)

    def reset(self) -> None:
        for instrument in (self.answered, self.run_seconds, self.queue_seconds, self.batch_rows):
            instrument.reset()
        for code in self._failed:
            self._families.rows.remove(*self._labels, code)
        self._failed.clear()

    def remove(self) -> None:
        """Takes the version out of all scrapes."""
        self.reset()
        found = self._families
        found.rows.remove(*self._labels, "OK")
        for family in (found.queue_rows, found.run_seconds, found.queue_seconds, found.batch_rows):
            family.remove(*self._labels)


class Metrics:
    """All instruments of the service, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._versions: dict[tuple[str, str], VersionMetrics] = {}
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.rows = counter("headrace_executor_rows", "Rows answered, by canonical code.", [*_LABELS, "code"])
        self.queue_rows = gauge("headrace_executor_queue_rows", "Rows that wait for a run.", _LABELS)
        self.run_seconds = histogram(
            "headrace_executor_run_seconds", "Time of one run of a model.", _LABELS, buckets=_SECONDS
        )
        self.queue_seconds = histogram(
            "headrace_executor_queue_seconds",
            "Time that the rows of one call waited for their run.",
            _LABELS,
            buckets=_SECONDS,
        )
        self.batch_rows = histogram(
            "headrace_executor_batch_rows", "Rows in one run.", _LABELS, buckets=_ROWS
        )
        self.cold_starts = counter(
            "headrace_executor_cold_starts_total",
            "Activations: versions made ready, at the start, by an operator (`load`), or because a call came (`call`).",
            [*_LABELS, "why"],
        )
        self.cold_rows = counter(
            "headrace_executor_cold_rows_total", "Rows that waited until their version was active.", _LABELS
        )
        self.load_seconds = gauge(
            "headrace_executor_load_seconds",
            "Time that the last load of a version took, warm-up included.",
            _LABELS,
        )
        self.memory_bytes = gauge(
            "headrace_executor_memory_bytes",
            "Memory of the versions that are active: by how much a process grew with each.",
        )
        self.quarantined = gauge(
            "headrace_executor_quarantined",
            "1 for a version that should serve and can't be used; the log and `headrace status` say why.",
            _LABELS,
        )
        self.unsaved = gauge(
            "headrace_executor_unsaved",
            "1 while what is served, or who loaded it, can't be written to the disk.",
        )
        self.evictions = counter(
            "headrace_executor_evictions_total",
            "Versions put into the warm pool to stay within the memory budget.",
            _LABELS,
        )
        self.failovers = counter(
            "headrace_executor_failovers_total",
            "Moves of a version from one backend to another.",
            [*_LABELS, "from", "to"],
        )
        self.probes = counter(
            "headrace_executor_probes_total",
            "Tries of a lost backend, and whether it was well.",
            [*_LABELS, "backend", "well"],
        )
        self.backend = gauge(
            "headrace_executor_backend_active",
            "1 for the backend that runs the version, 0 for those that stand by.",
            [*_LABELS, "backend"],
        )

    def of(self, model: str, version: str, queued: Callable[[], int]) -> VersionMetrics:
        """The instruments of a version; one that is loaded again goes on counting. `queued`: how many rows wait now."""
        found = self._versions.pop((model, version), None) or VersionMetrics(self, (model, version))
        found.queue_rows.set_function(queued)
        self._versions[model, version] = found
        if len(self._versions) > _MAX_VERSIONS:
            self._versions.pop(next(iter(self._versions))).remove()
        return found

    def reset_versions(self) -> None:
        """Sets the counts of all versions to zero, after the warm-up calls."""
        for version in self._versions.values():
            version.reset()
