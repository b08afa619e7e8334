"""The instruments of shadows. Labels hold names of pipelines and fixed words."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class ShadowMetrics:
    """Counts what shadows did, and what they did not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._ran = counter(
            "headrace_router_shadow_rows",
            "Rows that ran on a shadow, by what came of them.",
            ["pipeline", "result"],
        )
        self._dropped = counter(
            "headrace_router_shadow_dropped_rows",
            "Rows of a shadow's share that did not run, by reason.",
            ["pipeline", "reason"],
        )
        self.duty = gauge(
            "headrace_router_shadow_duty",
            "Share of the time that shadows may run; it falls when live batches become slower.",
        )

    def ran(self, pipeline: str, rows: int, failed: int) -> None:
        """So many rows ran, and of them so many failed."""
        self._ran.labels(pipeline, "answered").inc(rows - failed)
        self._ran.labels(pipeline, "failed").inc(failed)

    def dropped(self, pipeline: str, reason: str, rows: int) -> None:
        self._dropped.labels(pipeline, reason).inc(rows)
