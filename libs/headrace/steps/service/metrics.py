"""The metrics of a service that runs steps. Labels are reasons, steps and columns of pipeline documents: few, never a hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.columns import RowError
from headrace.hop.errors import reason_name

_SECONDS = (25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3e-3, 6e-3, 12e-3, 25e-3, 50e-3, 0.1, 0.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class StepMetrics:
    """`headrace_SERVICE_*`: rows, their errors, the time of runs, and values outside a vocabulary (a sign of data drift)."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        def name(what: str) -> str:
            return f"headrace_{service}_{what}"

        self._rows = Histogram(name("batch_rows"), "Rows per batch.", buckets=_ROWS, registry=registry)
        self._seconds = Histogram(
            name("run_seconds"), "Time of the steps for one batch.", buckets=_SECONDS, registry=registry
        )
        self._errors = Counter(
            name("row_errors"), "Rows without a result, by reason.", ["reason"], registry=registry
        )
        self._unseen = Counter(
            name("unseen_values"),
            "Values outside a step's vocabulary, by the column that they came in.",
            ["step", "column"],
            registry=registry,
        )
        self._programs = Gauge(name("programs"), "Specifications kept compiled.", registry=registry)
        self._compiled = Counter(name("compilations"), "Specifications compiled.", registry=registry)

    def ran(self, rows: int, seconds: float, errors: Iterable[RowError]) -> None:
        """Counts one batch that was answered; it took `seconds`."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)
        for error in errors:
            self._errors.labels(reason_name(error.reason)).inc()

    def unseen(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Counts the values outside a vocabulary of one batch: (name of the step, column) → count."""
        for (step, column), count in counts.items():
            self._unseen.labels(step, column).inc(count)

    def compiled(self, kept: int) -> None:
        """Counts one compilation; `kept`: programs in the cache."""
        self._compiled.inc()
        self._programs.set(kept)
