"""The executor's instruments. Labels are the models that are loaded and the canonical codes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """All instruments of the service, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "headrace_executor_rows_total",
            "Rows answered, by canonical code.",
            ["model", "code"],
            registry=registry,
        )
        self.run_seconds = Histogram(
            "headrace_executor_run_seconds",
            "Time of one run of a model.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "headrace_executor_queue_seconds",
            "Time that the rows of one call waited for their run.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "headrace_executor_batch_rows", "Rows in one run.", ["model"], buckets=_ROWS, registry=registry
        )
        self.queue_rows = Gauge(
            "headrace_executor_queue_rows", "Rows that wait for a run.", ["model"], registry=registry
        )
        self.cold_starts = Counter(
            "headrace_executor_cold_starts_total",
            "Versions loaded and run for the first time.",
            ["model"],
            registry=registry,
        )
        self.load_seconds = Gauge(
            "headrace_executor_load_seconds",
            "Time that the last load of a version took, warm-up included.",
            ["model"],
            registry=registry,
        )
        self.loaded_models = Gauge(
            "headrace_executor_loaded_models", "Versions that are loaded.", registry=registry
        )
